"""Submits, approves and follows runs of a deployment of Foreplan.

    python client.py submit             prints the run's id
    python client.py wait RUN           returns once the run waits for a person (exit 3) or has ended (0 or 10)
    python client.py approve RUN        approves what the run waits with
"""
import asyncio, getpass, json, os, re, sys, time, uuid
import nats

TENANT, USER = os.environ.get("FOREPLAN_TENANT", "fp"), os.environ.get("USER") or getpass.getuser()
SPEC = {"project": "sales-forecast", "goal": "Say what next month will bring, and publish it",
        "planner": {"kind": "derive", "produce": ["published"]}}

def run_id():  # a UUID of version 7: runs are listed by the time that it begins with, and spread by its last byte
    random = str(uuid.uuid4())[15:]
    return str(uuid.UUID(f"{time.time_ns() // 1_000_000:012x}7{random}"))

def place(kind, run):
    return f"{TENANT}.{kind}.{int(run[-2:], 16) % 64}.{run}"

async def ask(nc, run, id, what):
    """Sends a command, and returns what the tracker says. Sending it again with the same id is one command."""
    inbox = nc.new_inbox()
    answers = await nc.subscribe(inbox)
    frame = {"header": {"v": 1, "id": id}, "body": {"message": "input", "run": run, "input": what}}
    headers = {"Nats-Msg-Id": id, "Foreplan-Reply": inbox}
    user = re.sub("[^A-Za-z0-9_-]", lambda c: "".join(f"={byte:02x}" for byte in c[0].encode()), USER)
    await nc.jetstream().publish(place(f"cmd.{user}", run), json.dumps(frame).encode(), headers=headers)
    answer = json.loads((await answers.next_msg(timeout=20)).data)
    if answer != "accepted":
        sys.exit(f"the deployment refuses it: {answer['refused']}")

async def follow(nc, run):
    """Yields the entries of a run as they are written, each with where the run stands if it is the last one so far."""
    entries = await nc.jetstream().subscribe(place("run", run), ordered_consumer=True)
    async for msg in entries.messages:
        is_last = msg.metadata.num_pending == 0
        *lines, last = msg.data.split(b"\n")
        for line in lines:
            yield json.loads(line), {}
        yield json.loads(last), json.loads(msg.headers["Foreplan-Progress"]) if is_last else {}

async def rest(nc, run):
    """Returns where the run stands once nothing happens by itself, the digest to approve, and the last output."""
    digest, output = None, None
    async for entry, stand in follow(nc, run):
        output = entry["cause"].get("outcome", {}).get("output", {}).get("inline", output)
        for event in entry["events"]:
            digest = event["digest"] if event["event"] == "approval_requested" else digest
        if "waiting" in stand or "ended_at" in stand:
            return stand, digest, output

async def main(verb, run=None):
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    if verb == "submit":
        run = run_id()
        await ask(nc, run, run, {"input": "submit", "spec": SPEC, "by": USER})
        print(run)
        return 0
    stand, digest, output = await rest(nc, run)
    if verb == "approve":
        id = str(uuid.uuid4())
        await ask(nc, run, id, {"input": "command", "command": "approve", "digest": digest, "id": id, "by": USER})
        stand = {"status": "approved"}
    print(json.dumps({"status": stand["status"], "digest": digest, "output": output}))
    await nc.close()
    return {"waiting": 3, "succeeded": 0, "approved": 0}.get(stand["status"], 10)

if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
