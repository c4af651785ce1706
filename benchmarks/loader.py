"""How many training samples a second come out of the data loader, and is its memory flat?

A sample is a window of W = 2 camera frames of 256 x 256 (so two JPEGs are decoded), a state and 4
actions. The dataset is drawn first (see loader_frames.py; 15 kB a frame) and packed; the page cache
is warm for everybody. Rows: the pack with its pictures in memory, on disk, as raw pixels; with a
consumer that takes a given time for each batch (then the share of time that it waits is what
counts); with Octo's augmentation on this machine's CPU in the place of a GPU. Beside it, where a
clone is given, Octo's own loader on the same files, as Octo configures it (resize and augmentation
on the host) and with only the work that ours does. Memory is the median of the resident memory over
the 1,000 samples before each mark. Every row has a process of its own. Example (3 minutes):

    python benchmarks/loader.py --octo CLONE --octo-python VENV/bin/python --json out.json
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hardware import hardware, write_report
from loader_frames import write_frames

from arp_jax.data.loader import Loader
from arp_jax.data.pack import open_pack, pack_dataset
from arp_jax.data.prefetch import prefetch
from arp_jax.normalize import affine_from_stats
from arp_jax.specs import PolicySpec

PACKAGES = ("jax", "numpy", "array_record", "simplejpeg", "pillow")
WINDOW, HORIZON = 2, 4
MARKS = (2_000, 10_000, 20_000)  # samples after which memory is read
BEFORE_MARK = 1_000
IN_MEMORY = 8 << 30


class Case(NamedTuple):
    """One way to read the pack."""

    name: str
    images: str = "encoded"
    memory_budget: int = IN_MEMORY
    consumer_ms: float = 0.0
    augment: bool = False


class Row(NamedTuple):
    """One measurement; `memory_mb` is {samples: MB}, `waiting` the share of the consumer's time.

    `cpu_ms` is processor time a sample, over all threads: what a busy machine does not change.
    """

    loader: str
    samples_per_second: float
    cpu_ms: float
    waiting: float | None
    memory_mb: dict[int, float]
    memory_growth: float | None
    samples: int


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def make_consumer(case: Case) -> Any:
    """What is done with each batch: nothing, a pause, or Octo's augmentation in one jitted call."""
    if not case.augment:
        return lambda batch: time.sleep(case.consumer_ms / 1e3)
    import jax

    from arp_jax.models.image_augment import ImageAugment, augment_images

    config = ImageAugment(
        scale=(0.8, 1.0), ratio=(0.9, 1.1), brightness=0.1, contrast=0.1, saturation=0.1, hue=0.05
    )
    augment = jax.jit(lambda images, key: augment_images(images, config, key))
    keys = iter(jax.random.split(jax.random.key(0), 10_000))
    return lambda batch: augment(batch["observation"]["image"], next(keys)).block_until_ready()


def measure(directory: Path, case: Case, batch_size: int, samples: int) -> Row:
    """Reads `samples` samples and a few before, in this process."""
    pack = open_pack(directory, case.memory_budget)
    assert pack.observation_spec is not None
    assert pack.action_spec is not None
    spec = PolicySpec(pack.observation_spec, pack.action_spec, WINDOW, HORIZON, 0)
    normalizer = {name: affine_from_stats(s, "standard") for name, s in pack.stats.items()}
    loader = Loader(pack, spec, normalizer, batch_size, seed=0)
    consume = make_consumer(case)
    memory: list[tuple[int, float]] = []
    with prefetch(loader, depth=2) as batches:
        for _ in range(4):
            consume(next(batches))
        done, waited, begin, busy = 0, 0.0, time.perf_counter(), time.process_time()
        while done < samples:
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            consume(batch)
            done += batch_size
            memory.append((done, resident_mb()))
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    pack.close()
    marks = {
        mark: statistics.median(mb for n, mb in memory if mark - BEFORE_MARK < n <= mark)
        for mark in MARKS
        if mark <= done
    }
    growth = marks[MARKS[-1]] / marks[MARKS[0]] - 1 if MARKS[-1] in marks else None
    rate, cpu_ms = done / seconds, 1e3 * busy / done
    return Row(f"arp_jax, {case.name}", rate, cpu_ms, waited / seconds, marks, growth, done)


def measure_octo(args: argparse.Namespace, dataset: Path) -> Iterator[Row]:
    """Octo's loader as it is configured, and decoding only; the faster of two thread counts."""
    peer = Path(__file__).with_name("octo_loader.py")
    settings = {
        "octo": str(Path(args.octo).resolve()),
        "dataset": str(dataset.resolve()),
        "window": WINDOW,
        "batch_size": args.batch,
        "shuffle_buffer": 2_000,
        "seconds": args.octo_seconds,
        "warm": 4 * args.batch,
        "marks": MARKS,
    }
    names = {True: "octo, as configured", False: "octo, decoding only"}
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    for augment, name in names.items():
        found = []
        # Its configs say 16, more threads than this may have cores.
        for calls in sorted({16, os.cpu_count() or 1}):
            text = json.dumps({**settings, "augment": augment, "parallel_calls": calls})
            done = subprocess.run(
                [args.octo_python, str(peer), text], env=environment, capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(f"octo's loader failed:\n{done.stderr[-2000:]}")
            found.append((json.loads(done.stdout.splitlines()[-1]), calls))
        best, calls = max(found, key=lambda entry: entry[0]["samples_per_second"])
        memory = {int(mark): mb for mark, mb in best["memory_mb"].items()}
        rate, cpu_ms = best["samples_per_second"], best["cpu_ms"]
        name = f"{name}, TF {best['tensorflow']}, {calls} calls"
        yield Row(name, rate, cpu_ms, None, memory, None, best["samples"])


def print_row(row: Row, first: Row) -> None:
    """One line; the ratio is that of the first row to this one."""
    memory = " ".join(f"{row.memory_mb[m]:6.0f}" if m in row.memory_mb else "     -" for m in MARKS)
    waiting = "     -" if row.waiting is None else f"{100 * row.waiting:4.1f} %"
    growth = "" if row.memory_growth is None else f" ({100 * row.memory_growth:+.1f} %)"
    ratio = first.samples_per_second / row.samples_per_second
    beside = f"  ours is {ratio:.1f} x" if row.loader.startswith("octo") else ""
    print(
        f"{row.loader:<42} {row.samples_per_second:>7,.0f} samples/s  {row.cpu_ms:5.2f} ms CPU  "
        f"waiting {waiting}  MB {memory}{growth}{beside}",
        flush=True,
    )


def main() -> None:
    """Draws and packs the data, measures, prints a line per row, and writes JSON when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("runs/benchmark_loader"), help="folder for data; kept")
    add("--episodes", type=int, default=100, help="episodes of 40 frames to draw")
    add("--batch", type=int, default=128, help="samples in a batch")
    add("--samples", type=int, default=MARKS[-1], help="samples of the first two rows")
    add("--consumer-ms", type=float, default=100.0, help="time of a consumer for each batch")
    add("--octo", help="clone of github.com/octo-models/octo")
    add("--octo-python", default=sys.executable, help="interpreter that can import octo.data")
    add("--octo-seconds", type=float, default=8.0, help="measuring time of each of its rows")
    add("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    dataset = write_frames(args.data, args.episodes)
    packs = {form: args.data / f"pack_{form}" for form in ("encoded", "raw")}
    for form, directory in packs.items():
        pack = pack_dataset(dataset, directory, images=form, memory_budget=0)
        pack.close()
    machine = hardware(PACKAGES)
    size = sum(path.stat().st_size for path in dataset.glob("*.tfrecord-*")) / pack.num_steps
    machine |= {"batch": args.batch, "window": WINDOW, "frame_bytes": round(size)}
    print(json.dumps(machine))
    cases = {
        Case("pictures in memory"): args.samples,
        Case("pictures on disk", memory_budget=1 << 20): args.samples,
        Case("raw pixels in memory", "raw"): args.samples // 2,
        Case("raw pixels on disk", "raw", 1 << 20): args.samples // 2,
        Case(f"consumer of {args.consumer_ms:g} ms", consumer_ms=args.consumer_ms): 8_000,
        Case("octo's augmentation on this CPU", augment=True): 1_500,
    }
    rows: list[Row] = []
    context = multiprocessing.get_context("spawn")
    for case, samples in cases.items():
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure, (packs[case.images], case, args.batch, samples)))
        print_row(rows[-1], rows[0])
    for row in measure_octo(args, dataset) if args.octo else ():
        rows.append(row)
        print_row(row, rows[0])
    if args.json is not None:
        write_report(args.json, machine, rows)


if __name__ == "__main__":
    main()
