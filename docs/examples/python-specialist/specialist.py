"""Joins a deployment of Foreplan, and does one step at a time."""
import asyncio, contextlib, hashlib, json, os, signal, socket, statistics, time, uuid
import nats
from nats.js.api import AckPolicy, ConsumerConfig

TENANT, PROJECT, CAPABILITY = os.environ.get("FOREPLAN_TENANT", "fp"), "sales-forecast", "statistics"
NAME = f"python-{socket.gethostname().split('.')[0]}-{os.getpid()}"

def fit_trend(sales):
    slope, start = statistics.linear_regression(range(len(sales)), sales)
    return {"forecast": {"next": round(start + slope * len(sales), 2), "slope": round(slope, 2)}}

def tool(call, effect, description, takes, returns):
    fields = lambda of: {"type": "object", "properties": {n: {"type": t} for n, t in of.items()}, "required": [*of]}
    about = {"name": call.__name__, "description": description, "effect": effect, "cost": 1,
             "input": fields(takes), "output": fields(returns), "capabilities": [CAPABILITY]}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return call.__name__, (call, {**about, "digest": f"sha256:{digest}"})

TOOLS = dict([tool(fit_trend, "read", "Fit a line, say what comes next", {"sales": "array"}, {"forecast": "object"})])

async def perform(ask, deliveries):
    failed = lambda kind, why, **more: {"failure": {"kind": kind, "code": kind, "message": why, **more}}
    call, about = TOOLS.get(ask.get("tool"), (None, {"digest": None}))
    if deliveries > 1:
        return failed("worker_lost", "another worker began this, and nobody knows how far it came")
    if about["digest"] != ask.get("tool_digest"):
        return failed("tool_changed", "this is not the tool that was approved", effect="none")
    try:
        done = asyncio.to_thread(call, **ask["input"])
        return {"output": {"inline": await asyncio.wait_for(done, ask["timeout"]["secs"])}}
    except asyncio.TimeoutError:
        return failed("timeout", "the call took too long")
    except Exception as error:
        return failed("tool", f"{type(error).__name__}: {error}")

async def take(js, msg):
    frame, began = json.loads(msg.data), time.time_ns() // 1000
    ask, run = frame["body"], frame["body"]["run"]
    outcome = await perform(ask, msg.metadata.num_delivered)
    result = {"step": ask["step"], "attempt": ask["attempt"], "outcome": outcome, "worker": NAME,
              "started_at": began, "ended_at": time.time_ns() // 1000}
    header = {"v": 1, "id": str(uuid.uuid4()), "cause": frame["header"]["id"], "lease": frame["header"].get("lease")}
    reply = {"header": header,
             "body": {"message": "reply", "run": run, "reply": {"reply": "step", **result}}}
    place = f"{run}.step-{ask['step'].replace('~', '=7e')}.{ask['attempt']}"
    await js.publish(f"{TENANT}.rep.{int(run[-2:], 16) % 64}.{place}", json.dumps(reply).encode(),
                     headers={"Nats-Msg-Id": f"reply/{place}/{NAME}"})
    await msg.ack_sync()

async def every(seconds, act):
    while True:
        await asyncio.gather(act(), asyncio.sleep(seconds), return_exceptions=True)

async def main():
    nc, stop = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222")), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    js, stream, pool = nc.jetstream(), f"{TENANT}_WORK", f"executor-{PROJECT}-{CAPABILITY}"
    ack_wait = (await js.consumer_info(stream, "planner")).config.ack_wait
    queue = await js.pull_subscribe(f"{TENANT}.work.executor.{PROJECT}.{CAPABILITY}.>", pool, stream, ConsumerConfig(
        ack_policy=AckPolicy.EXPLICIT, ack_wait=ack_wait, max_deliver=5, max_ack_pending=4096))
    capabilities, workers = [await js.key_value(f"{TENANT}_{name}") for name in ("CAPABILITIES", "WORKERS")]
    about = {"project": PROJECT, "capability": CAPABILITY, "tools": [about for _, about in TOOLS.values()]}
    await capabilities.put(f"{PROJECT}.{CAPABILITY}", json.dumps(about).encode())
    alive = json.dumps({"roles": ["executor"], "project": PROJECT, "capabilities": [CAPABILITY]}).encode()
    signs = asyncio.create_task(every(8, lambda: workers.put(NAME, alive)))
    print(f"Serving as {NAME}", flush=True)
    while not stop.is_set():
        with contextlib.suppress(nats.errors.TimeoutError):
            [msg] = await queue.fetch(1, timeout=2)
            beats = asyncio.create_task(every(ack_wait / 3, msg.in_progress))
            await take(js, msg)
            beats.cancel()
    signs.cancel()
    await workers.purge(NAME)
    await nc.close()

asyncio.run(main())
