"""The tools of the release checklist. Each acts on the folder `state/` and knows no version by name.

    python3 release.py VERB      JSON on stdin, JSON on stdout

    state/migrations/pending/    what a build brought and the database does not have yet
    state/migrations/applied/    what the database has
    state/builds/                one file for each build
    state/deploy.log             one line for each deploy that happened; the last one is live
    state/fences/                builds of which `is_deployed` has said that they are not live
    state/downstream/            what each database downstream says of itself

`state/` is made from `seed/` on the first call. Remove it to start over.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATE = HERE / "state"
RELEASES = HERE / "releases"


class Failure(Exception):
    """A failure with a stable code that replan rules can match."""

    def __init__(self, code, message, retryable=False, effect="none"):
        super().__init__(message)
        self.error = {"code": code, "message": message, "retryable": retryable, "effect": effect}


def prepare_state():
    """Lays out `state/` in one step, so that two first calls at once cannot mix."""
    if STATE.exists():
        return
    fresh = Path(tempfile.mkdtemp(prefix=".state-", dir=HERE))
    shutil.copytree(HERE / "seed", fresh, dirs_exist_ok=True)
    try:
        os.rename(fresh, STATE)
    except OSError:
        shutil.rmtree(fresh)


def manifest(version):
    """Returns what a release says of itself."""
    known = sorted(entry.name for entry in RELEASES.iterdir())
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or version not in known:
        raise Failure("unknown_version", f"there is no release {version}; there are {', '.join(known)}")
    return json.loads((RELEASES / version / "manifest.json").read_text())


def names(folder):
    return sorted(path.stem for path in folder.glob("*.sql"))


def build(service, version):
    release = manifest(version)
    migration = RELEASES / version / "migration.sql"
    if migration.exists() and version not in names(STATE / "migrations/applied"):
        shutil.copyfile(migration, STATE / f"migrations/pending/{version}.sql")
    # The key is the same for every attempt of one step, so a repeated attempt is the same build.
    key = os.environ.get("FOREPLAN_IDEMPOTENCY_KEY") or str(time.time_ns())
    build_id = f"{service}-{version}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    folder = STATE / "builds"
    folder.mkdir(exist_ok=True)
    (folder / f"{build_id}.json").write_text(json.dumps({"version": version, **release}) + "\n")
    return {"build": build_id, "notes": release["notes"]}


def smoke(service, version, build):
    if not (STATE / f"builds/{build}.json").exists():
        raise Failure("missing_build", f"there is no build {build}")
    pending = names(STATE / "migrations/pending")
    if pending:
        raise Failure(
            "missing_migration",
            f"{service} {version} does not start: the database lacks migration {', '.join(pending)}",
        )
    return {"passed": True, "migrations": names(STATE / "migrations/applied")}


def migrate():
    applied = []
    for name in names(STATE / "migrations/pending"):
        os.replace(STATE / f"migrations/pending/{name}.sql", STATE / f"migrations/applied/{name}.sql")
        applied.append(name)
    return {"applied": applied}


def deploys():
    """Returns the deploys that happened, oldest first."""
    log = STATE / "deploy.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [dict(zip(("at", "service", "version", "build"), line.split())) for line in lines]


@contextlib.contextmanager
def deploying():
    """One at a time: a deploy, or the question whether there was one."""
    with open(STATE / "deploy.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def attempt():
    return int(os.environ.get("FOREPLAN_ATTEMPT", "0"))


def deploy(service, version, build):
    fence = STATE / f"fences/{build}"
    with deploying():
        # Left over from a process that was killed, and overtaken: `is_deployed` has said no since.
        if fence.exists() and attempt() < int(fence.read_text()):
            raise Failure("overtaken", f"attempt {attempt()} to deploy {build} comes too late")
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with open(STATE / "deploy.log", "a") as log:
            log.write(f"{at} {service} {version} {build}\n")
            log.flush()
            os.fsync(log.fileno())
    return {"live": version, "build": build}


def is_deployed(service, version, build):
    """Says whether the build went live. After a no, no earlier attempt can make it so any more."""
    with deploying():
        if any(entry["build"] == build for entry in deploys()):
            return {"happened": True, "output": {"live": version, "build": build}}
        fence = STATE / f"fences/{build}"
        fence.parent.mkdir(exist_ok=True)
        before = int(fence.read_text()) if fence.exists() else 0
        fence.write_text(str(max(before, attempt())))
        return {"happened": False}


def verify(service, version, build):
    live = [entry for entry in deploys() if entry["service"] == service][-1:]
    if not live or live[0]["build"] != build:
        raise Failure("not_live", f"{build} is not the build of {service} that is live")
    required = manifest(version)["requires"]
    for name in required:
        report = STATE / f"downstream/{name}.json"
        status = json.loads(report.read_text())["status"] if report.exists() else "missing"
        if status != "ok":
            raise Failure(f"downstream_db_{status}", f"{service} {version} is live, but {name} is {status}")
    return {"healthy": True, "downstream": required}


VERBS = {f.__name__: f for f in (build, smoke, migrate, deploy, is_deployed, verify)}


def main():
    try:
        prepare_state()
        print(json.dumps(VERBS[sys.argv[1]](**json.load(sys.stdin))))
    except Failure as failure:
        print(json.dumps({"error": failure.error}))
        sys.exit(1)


if __name__ == "__main__":
    main()
