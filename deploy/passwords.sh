#!/bin/sh
# Prints a password for each user of deploy/nats/fp.conf, as variables: sh deploy/passwords.sh > deploy/.env
set -eu
cd "$(dirname "$0")"
grep -o 'password: \$[A-Z0-9_]*' nats/fp.conf | sed 's/.*\$//' | while read -r name; do
    # A letter first: the server reads a value that looks like a number as one.
    printf '%s=p%s\n' "$name" "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
done
