# Waits until the test lets it go on.
touch started
while [ ! -e go ]; do sleep 0.02; done
printf '{"total": 7}'
