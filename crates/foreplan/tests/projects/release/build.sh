printf '{"artifact": "app-%s"}' "$1"
