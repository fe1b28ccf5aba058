# Prints its argument in capital letters. Plain text on stdout becomes {"text": …}.
printf '%s' "$1" | tr '[:lower:]' '[:upper:]'
