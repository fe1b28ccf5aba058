echo "$1" >>printed.log
printf '{"copies": 1}'
