"""Likes on one article and mixed reads at once, on one machine: rates, latencies, CPU and memory.

    python3 deploy/load/load.py [--seconds N] [--likes N] [--binary FILE]

Starts `tally run` in a directory of its own on a free loopback port, and ends what it started. Needs wrk, and a release build:
`cargo build --release`. Prints one line per phase; docs/load-test.md explains them.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUBJECTS = 1000
CONNECTIONS = 64
# How often a like is followed until it is read.
SAMPLES = 100
TICKS = os.sysconf("SC_CLK_TCK")


def fail(message):
    sys.exit(f"load: {message}")


class Service:
    """`tally run`, with everything in a directory."""

    def __init__(self, binary, directory):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        # The limit of an actor would reject what comes from so few.
        command = [binary, "run", "--listen", self.address, "--limit-actor", "0"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
        with open(Path(directory) / "tally.log", "w") as log:
            self.process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, env=environment)
        for _ in range(300):
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.end()
        fail(f"tally is not ready:\n{(Path(directory) / 'tally.log').read_text()}")

    def exchange(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, body, {"content-type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def get(self, path):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def likes(self, subject):
        return self.exchange("GET", f"/v1/subjects/{subject}/counters")[1]["counters"]["likes"]

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def anonymous_mb(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        return 0

    def wait_until_counted(self):
        while True:
            progress = self.exchange("GET", "/v1/progress")[1]
            if all(end == partition["end"] for partition in progress["partitions"]
                   for end in [partition["committed"], *partition["applied"].values()]):
                return
            time.sleep(0.05)

    def end(self):
        self.process.terminate()
        self.process.wait()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Likes:
    """A sender of likes by different actors on one article, at a constant rate."""

    def __init__(self, binary, service, directory, name, rate, seconds):
        self.count = rate * seconds
        path = Path(directory) / f"{name}.ndjson"
        with open(path, "w") as file:
            for number in range(self.count):
                file.write(f'{{"event_id":"{name}-{number}","type":"like","actor_id":"{name}-{number}",'
                           f'"subject_id":"article:hot-{name}"}}\n')
        command = [binary, "send", str(path), "--to", f"http://{service.address}", "--rate", str(rate), "--json"]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def wait(self):
        output, _ = self.process.communicate()
        if self.process.returncode != 0:
            fail(f"tally send ended with {self.process.returncode}: {output}")
        return self.count / (time.monotonic() - self.begun)


def reads(service, seconds, pause_ms):
    command = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "5s", "-s", str(HERE / "reads.lua"),
               f"http://{service.address}", "--", str(SUBJECTS), str(pause_ms)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("{"))
    return json.loads(line)


def freshness(service, samples):
    """Milliseconds from the start of a request with a like until another connection reads it, ascending."""
    times = []
    for number in range(samples):
        subject, actor = f"article:seen-{number}", f"reader-{number}"
        event = [{"event_id": actor, "type": "like", "actor_id": actor, "subject_id": subject}]
        begun = time.monotonic()
        status, answer = service.exchange("POST", "/v1/events", json.dumps(event))
        if status != 202:
            fail(f"a like was refused: {status} {answer}")
        while service.likes(subject) == 0:
            if time.monotonic() - begun > 30:
                fail("a like was not counted within 30 s")
        times.append((time.monotonic() - begun) * 1000)
    return sorted(times)


def phase(name, service, seconds, run):
    """Runs something, and prints what it returns with the CPU that the service used meanwhile."""
    before, begun = service.cpu_seconds(), time.monotonic()
    figures = run()
    cores = (service.cpu_seconds() - before) / (time.monotonic() - begun)
    shown = [f"{name:<34}"] + figures + [f"{cores:.2f} cores", f"{service.anonymous_mb():.0f} MB"]
    print("  ".join(shown), flush=True)


def read_figures(outcome):
    rate = outcome["requests"] / outcome["seconds"]
    latencies = "  ".join(f"{name} {outcome[name + '_ms']:.1f} ms" for name in ["p50", "p95", "p99"])
    return rate, [f"{rate:,.0f} reads/s", latencies, f"{outcome['errors']} errors"]


def measure(binary, service, directory, seconds, rate):
    seed = Path(directory) / "seed.ndjson"
    subprocess.run([binary, "demo", "--write", str(seed), "--events", "100000"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([binary, "send", str(seed), "--to", f"http://{service.address}", "--json"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    service.wait_until_counted()
    saturation = {}

    def alone():
        saturation["reads"], figures = read_figures(reads(service, seconds, 0))
        return figures

    def half(likes):
        def run():
            target = saturation["reads"] / 2
            pause_ms = max(1, round(CONNECTIONS / target * 1000))
            sender = Likes(binary, service, directory, likes, rate, seconds) if likes else None
            figures = read_figures(reads(service, seconds, pause_ms))[1]
            if sender:
                figures.insert(0, f"{sender.wait():,.0f} likes/s")
            return figures
        return run

    def together():
        sender = Likes(binary, service, directory, "all", rate, seconds)
        figures = read_figures(reads(service, seconds, 0))[1]
        return [f"{sender.wait():,.0f} likes/s"] + figures

    def likes_alone():
        return [f"{Likes(binary, service, directory, 'alone', rate, seconds).wait():,.0f} likes/s"]

    def fresh():
        sender = Likes(binary, service, directory, "fresh", rate, seconds)
        times = freshness(service, SAMPLES)
        sender.wait()
        return [f"p50 {times[SAMPLES // 2]:.0f} ms  slowest of {SAMPLES} {times[-1]:.0f} ms"]

    phase("reads alone, all that is possible", service, seconds, alone)
    phase("reads alone, half of that", service, seconds, half(None))
    phase("likes alone", service, seconds, likes_alone)
    phase("likes, and half of those reads", service, seconds, half("half"))
    phase("likes, and all reads possible", service, seconds, together)
    service.wait_until_counted()
    phase("a like until it is read, beside likes", service, seconds, fresh)
    service.wait_until_counted()
    for name in ["alone", "half", "all", "fresh"]:
        found, expected = service.likes(f"article:hot-{name}"), rate * seconds
        if found != expected:
            fail(f"article:hot-{name} has {found} likes, and {expected} were sent")
    print(f"every article has exactly the {rate * seconds:,} likes that were sent")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=20, help="length of each phase (20)")
    parser.add_argument("--likes", type=int, default=20_000, help="likes per second (20000)")
    parser.add_argument("--binary", default=str(HERE.parent.parent / "target/release/tally"))
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        fail("wrk is missing: apt-get install wrk")
    binary = str(Path(arguments.binary).resolve())
    if not Path(binary).exists():
        fail(f"{binary} is missing: cargo build --release")
    print(f"{os.cpu_count()} cores, shared by tally, wrk and the sender; {CONNECTIONS} connections; {arguments.seconds} s each")
    with tempfile.TemporaryDirectory() as directory:
        service = Service(binary, directory)
        try:
            measure(binary, service, directory, arguments.seconds, arguments.likes)
        finally:
            service.end()


main()
