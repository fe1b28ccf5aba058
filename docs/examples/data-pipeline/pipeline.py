"""The tools of the pipeline. Data goes through files in `out/`; steps hand on their paths.

    python3 pipeline.py VERB      JSON on stdin, JSON on stdout

Every call takes STEP_SECONDS, so that there is time to watch a run, or to kill it, and appends one
line to `state/effects.log`. That line is the effect that a test can count: a call that is repeated
with the same idempotency key finds its line and adds none.
"""

import csv
import fcntl
import json
import os
import random
import sys
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
STATE = HERE / "state"
STEP_SECONDS = 0.4

REGIONS = ["north", "east", "south", "west"]
CATEGORIES = ["books", "garden", "kitchen", "toys", "travel"]
CUSTOMERS = 400
PRODUCTS = 60


class Failure(Exception):
    """A failure with a stable code that replan rules can match."""

    def __init__(self, code, message, retryable=False):
        super().__init__(message)
        self.error = {"code": code, "message": message, "retryable": retryable, "effect": "none"}


def write(name, fields, rows):
    """Writes a table as a whole: a reader sees the old file or the new one, never half of one."""
    OUT.mkdir(exist_ok=True)
    draft = OUT / f".{name}.{os.getpid()}"
    with open(draft, "w", newline="") as file:
        table = csv.DictWriter(file, fields)
        table.writeheader()
        table.writerows(rows)
    os.replace(draft, OUT / name)
    return {"path": f"out/{name}", "rows": len(rows)}


def read(path):
    with open(HERE / path, newline="") as file:
        return list(csv.DictReader(file))


def customer(chance, number):
    region = chance.choice(REGIONS)
    # One in ten comes from a form that shouts.
    return {"id": number, "region": region.upper() if chance.random() < 0.1 else region}


def product(chance, number):
    return {"id": number, "category": chance.choice(CATEGORIES), "cents": chance.randrange(199, 9_999)}


def order(chance, number):
    return {
        "id": number,
        # One in a hundred customers is not in the table.
        "customer": chance.randint(1, CUSTOMERS + CUSTOMERS // 100),
        "product": chance.randint(1, PRODUCTS),
        "day": (date(2026, 1, 1) + timedelta(days=chance.randrange(181))).isoformat(),
        # One in fifty has no quantity.
        "quantity": 0 if chance.random() < 0.02 else chance.randint(1, 5),
    }


ROWS = {"customers": customer, "products": product, "orders": order}


def generate(dataset, rows, seed):
    chance = random.Random(f"{seed}/{dataset}")
    table = [ROWS[dataset](chance, number) for number in range(1, rows + 1)]
    # Some rows arrive twice.
    table += chance.sample(table, rows // 50)
    return write(f"{dataset}.raw.csv", list(table[0]), table)


def clean(dataset, path, busy_once=False):
    if busy_once:
        marker = STATE / f"busy-{os.environ['FOREPLAN_IDEMPOTENCY_KEY'][-16:]}"
        if not marker.exists():
            marker.touch()
            raise Failure("source_busy", f"{path} is locked by its writer", retryable=True)
    raw = read(path)
    unique = {row["id"]: row for row in raw}
    for row in unique.values():
        if "region" in row:
            row["region"] = row["region"].lower()
    kept = [row for row in unique.values() if row.get("quantity") != "0"]
    return {**write(f"{dataset}.csv", list(raw[0]), kept), "dropped": len(raw) - len(kept)}


def join(customers, products, orders):
    region = {row["id"]: row["region"] for row in read(customers)}
    goods = {row["id"]: row for row in read(products)}
    sales, orphans = [], 0
    for row in read(orders):
        if row["customer"] not in region or row["product"] not in goods:
            orphans += 1
            continue
        item = goods[row["product"]]
        sales.append(
            {
                "order": row["id"],
                "region": region[row["customer"]],
                "category": item["category"],
                "month": row["day"][:7],
                "cents": int(item["cents"]) * int(row["quantity"]),
            }
        )
    result = write("sales.csv", ["order", "region", "category", "month", "cents"], sales)
    return {**result, "orphans": orphans, "cents": sum(row["cents"] for row in sales)}


def aggregate(sales, by):
    totals = Counter()
    for row in read(sales):
        totals[row[by]] += int(row["cents"])
    groups = [{by: key, "cents": cents} for key, cents in sorted(totals.items())]
    result = write(f"by-{by}.csv", [by, "cents"], groups)
    return {"path": result["path"], "groups": groups, "cents": totals.total()}


def check(cents, parts):
    wrong = [part["path"] for part in parts if part["cents"] != cents]
    if wrong:
        raise Failure("totals_differ", f"{', '.join(wrong)}: the sum is not that of all sales, {cents} cents")
    return {"cents": cents, "checked": len(parts)}


def euros(cents):
    return f"{cents / 100:,.2f}"


def report(cents, sales, orphans, parts):
    lines = ["# Sales", "", f"{sales:,} orders, {euros(cents)} EUR; {orphans} orders of unknown customers left out."]
    for part in parts:
        by = next(key for key in part["groups"][0] if key != "cents")
        lines += ["", f"| {by} | EUR | share |", "|---|---:|---:|"]
        for group in part["groups"]:
            lines.append(f"| {group[by]} | {euros(group['cents'])} | {group['cents'] / cents:.1%} |")
    text = "\n".join(lines) + "\n"
    draft = OUT / f".report.md.{os.getpid()}"
    draft.write_text(text)
    os.replace(draft, OUT / "report.md")
    return {"path": "out/report.md", "report": text}


def record_effect():
    """Appends this call's line, once for each key. The lock makes reading and appending one act."""
    key, step = os.environ["FOREPLAN_IDEMPOTENCY_KEY"], os.environ["FOREPLAN_STEP"]
    with open(STATE / "effects.log", "a+") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.seek(0)
        if any(line.split()[0] == key for line in log):
            return
        log.write(f"{key} {step}\n")
        log.flush()
        os.fsync(log.fileno())


VERBS = {f.__name__: f for f in (generate, clean, join, aggregate, check, report)}


def main():
    verb, given = sys.argv[1], json.load(sys.stdin)
    STATE.mkdir(exist_ok=True)
    try:
        time.sleep(STEP_SECONDS / 2)
        result = VERBS[verb](**given)
        record_effect()
        # A kill in this pause falls between the effect and its entry in the journal.
        time.sleep(STEP_SECONDS / 2)
        print(json.dumps(result))
    except Failure as failure:
        print(json.dumps({"error": failure.error}))
        sys.exit(1)


if __name__ == "__main__":
    main()
