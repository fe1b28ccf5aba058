printf '{"text": "%s"}' "$(cat text.txt)"
