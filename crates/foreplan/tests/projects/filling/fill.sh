echo "$1" >>filled.log
head -c 50000 /dev/zero | tr '\0' x
