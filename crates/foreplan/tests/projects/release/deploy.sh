echo "$1" >> deployed.log
if [ -e outage ]; then
  echo "the connection was lost" >&2
  exit 1
fi
printf '{"live": "%s"}' "$1"
