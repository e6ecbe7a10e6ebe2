"""Recognize two hours of drawn faces and compare what was found with what was drawn: ``python -m tests.two_hours``.

Two persons show an expression for six seconds each, cross each other, and are gone for a second of each minute and for
four seconds of every third one. A small network is trained on other drawn faces first, unless ``--model`` gives one.
Printed are the memory over time, frames without rows, switches of identity and how well the schedule was recovered. In
the end a shorter clip is recognized while the process is killed again and again: its rows must be the same.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from fer_lightning.data.sets.sketch.sketch import draw_face
from fer_lightning.emotions import SEVEN
from fer_lightning.inference.faces.blazeface import BlazeFace
from fer_lightning.inference.faces.model_files import blazeface_file
from fer_lightning.inference.faces.views import in_border
from fer_lightning.inference.framing import Framing, measured
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.rows import Row, RowWriter, read_rows
from fer_lightning.inference.video.frames import Seen
from fer_lightning.inference.video.reading import Video
from fer_lightning.inference.video.report import write_session_report
from fer_lightning.inference.video.session import Session
from fer_lightning.inference.video.smoothing import majority
from tests.helpers.drawn_clip import EASY, HOLD_S, MINUTE, RATE, Minutes, write_clip

TRAINING = "--data.difficulty 0.4 --data.val 350 --data.test 350 --trainer.max_epochs 4 --trainer.precision 32-true"
MEMORY_MB = 50
MAX_AGE_S = 1.5  # a person who was gone for longer is new
SURE_SHARE = 0.99  # of the seconds that lie within one expression


def train(folder: Path) -> Path:
    """Train a compact network on drawn faces, in a process whose memory does not count, and return its run folder."""
    command = [sys.executable, "-m", "fer_lightning", "fit", "--config", "configs/quickstart.yaml", *TRAINING.split()]
    subprocess.run([*command, "--trainer.default_root_dir", str(folder), "--name", "drawn"], check=True)
    return folder / "drawn/version_0"


def framing() -> Framing:
    """Return how drawn faces sit in their pictures."""
    detector = BlazeFace(blazeface_file("short") or Path("missing"), "short")
    rng = np.random.default_rng(5)
    faces = [draw_face(SEVEN.class_names[k % 7], rng, 192, 3, EASY)[0].transpose(1, 2, 0) for k in range(42)]
    return measured(
        [in_border(np.ascontiguousarray(face), detector, 0.25) for face in faces], [(192, 192)] * len(faces)
    )


def recognizer_of(model: Path) -> Recognizer:
    """Return a recognizer that cuts faces as the drawings are."""
    recognizer = Recognizer.load(model, views="none")
    if not recognizer.model.framings:
        recognizer.model = replace(recognizer.model, framings={"blazeface_short": framing()})
    return recognizer


def rss_mb() -> float:
    """Return the memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def recognize(model: Path, video: Path, table: Path, every: int) -> tuple[Session, list[float]]:
    """Recognize a video; return its session and the memory in MB after each hundredth of it."""
    recognizer, memory = recognizer_of(model), []
    step = max(Video(video).frames // every // 100, 1)

    def watch(seen: Seen, shown: object) -> bool:
        if seen.frame.number // every % step == 0:
            memory.append(rss_mb())
        return True

    with RowWriter(table, recognizer.model.class_names, recognizer.model.card.name) as rows:
        session = Session(recognizer, Video(video, every), video.name, rows, watch=watch).run()
        write_session_report(session, table.with_suffix(""))
    return session, memory


def truth(row: Row, minutes: Minutes) -> int:
    """Return which of the two persons a row is of."""
    x, y = row["x"] + row["w"] / 2, row["y"] + row["h"] / 2
    gaps = [np.hypot(x - a, y - b) for a, b in (minutes.middle(person, row["time_s"]) for person in (0, 1))]
    return int(np.argmin(gaps))


def judged(table: Path, minutes: Minutes, frames: int, every: int) -> dict[str, float]:
    """Compare rows with what was drawn."""
    counts: dict[str, float] = defaultdict(float)
    last: dict[int, tuple[int, float]] = {}
    seconds: dict[tuple[int, int], list[str]] = defaultdict(list)
    expected = 0
    for number, rows in groupby(read_rows(table), key=lambda row: int(row["frame"])):
        counts["frames wrong"] += number != expected
        expected = number + every
        for row in rows:
            if row["label"] is None:
                counts["without a face"] += 1
                continue
            person = truth(row, minutes)
            known, when = last.get(person, (row["face_id"], -1.0))
            counts["switches"] += known != row["face_id"] and row["time_s"] - when <= MAX_AGE_S
            last[person] = (row["face_id"], row["time_s"])
            seconds[person, int(row["time_s"] + 1e-9)].append(row["label"])
    counts["frames wrong"] += abs(expected - -(-frames // every) * every) > 0
    for (person, second), labels in seconds.items():
        if (second + HOLD_S / 2 * person) % HOLD_S <= HOLD_S - 1:
            counts["seconds"] += 1
            counts["right"] += majority(labels)[0] == minutes.expression(person, second + 0.5)
    return counts


def killed_again_and_again(model: Path, folder: Path, minutes: Minutes, kills: int) -> bool:
    """Kill the recognition of a clip several times; tell whether the rows are those of a process that lived."""
    video = write_clip(folder / "short.mp4", minutes, 2)
    recognize(model, video, folder / "lived.csv", 4)
    table, rng, done = folder / "killed.csv", random.Random(0), 0
    while done < kills:
        child = os.fork()
        if not child:
            os.close(1)
            recognize(model, video, table, 4)
            os._exit(0)
        before = table.stat().st_size if table.exists() else 0
        wanted = before + rng.randrange(1, (folder / "lived.csv").stat().st_size // (kills + 1))
        while not table.exists() or table.stat().st_size < wanted:
            if os.waitpid(child, os.WNOHANG)[0]:
                break
            time.sleep(0.002)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        done += 1
    recognize(model, video, table, 4)
    return table.read_bytes() == (folder / "lived.csv").read_bytes()


def main() -> int:
    """Run all of it and return 1 if something was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a run or model folder; trained if not given")
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--kills", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    faults = []
    with tempfile.TemporaryDirectory() as name:
        folder, minutes = Path(name), Minutes()
        model = given.model or train(folder)
        video = write_clip(folder / "clip.mp4", minutes, given.minutes)
        began, cpu = time.perf_counter(), time.process_time()
        session, memory = recognize(model, video, folder / "rows.csv", given.every)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        found = judged(folder / "rows.csv", minutes, given.minutes * MINUTE, given.every)
        settled = memory[len(memory) // 20]
        share = found["right"] / max(found["seconds"], 1)
        print(f"{given.minutes} minutes, every {given.every}. of {RATE} frames a second: {wall:.0f} s, CPU {cpu:.0f} s")
        print(f"memory: {settled:.0f} MB after 5 %, {max(memory):.0f} MB at most, {rss_mb():.0f} MB after the report")
        wrong, gone = f"{found['frames wrong']:.0f} wrong", f"{session.without:,} without a face"
        print(f"frames: {session.frames:,} recognized, {gone}, {wrong}")
        print(f"persons: {len(session.persons)}, switches of identity: {found['switches']:.0f}")
        print(f"schedule: {found['right']:.0f} of {found['seconds']:.0f} seconds within an expression ({share:.2%})")
        faults += ["memory"] if max(memory) - settled > MEMORY_MB else []
        faults += ["frames"] if found["frames wrong"] or session.problem else []
        faults += ["identity"] if found["switches"] > max(given.minutes / 60, 1) else []
        faults += ["schedule"] if share < SURE_SHARE else []
        same = killed_again_and_again(model, folder, minutes, given.kills)
        print(f"{given.kills} kills: the rows are {'the same' if same else 'OTHERS'}")
        faults += [] if same else ["kills"]
    print(f"not as promised: {', '.join(faults)}" if faults else "all as promised")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
