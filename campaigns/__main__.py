"""`python -m campaigns`: see README.md."""

from __future__ import annotations

import argparse
import os
import random
import sys


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m campaigns", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    cores = os.cpu_count() or 1

    def command(name: str, about: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=about, description=about)
        one.add_argument("--seed", type=int, help="repeats a run; by default a new one, printed")
        return one

    one = command("crash-model", "cut the power at every call of a writer, in a model of a disk")
    one.add_argument(
        "--states", type=int, default=1_000_000, help="of the log; others a part of it"
    )
    one.add_argument("--workers", type=int, default=cores)
    one = command("mutants", "plant mistakes that the crash model must catch")
    one.add_argument("--budget", type=int, default=100_000, help="states for each")
    one = command("kill", "kill -9 writers at random instants and at random calls")
    one.add_argument("--kills", type=int, default=10_000)
    one.add_argument("--workers", type=int, default=cores)
    one.add_argument("--folder", help="where the logs are written; decides which disk it is")
    one = command("power-cut", "cut the power of a loop-mounted ext4; needs root")
    one.add_argument("--trials", type=int, default=2_000, help="for each writer")
    one.add_argument("--workers", type=int, default=cores)
    one.add_argument("--writers", nargs="*", help="by default all")
    one = command("crowd", "eight contenders with random kills, four readers that follow")
    one.add_argument("--kills", type=int, default=10_000)
    one.add_argument("--contenders", type=int, default=8)
    one.add_argument("--readers", type=int, default=4)
    one.add_argument("--folder", help="where the log is written")
    one = command("job-kill", "kill whole jobs of all kinds of steps until they are done")
    one.add_argument("--kills", type=int, default=2_000)
    one.add_argument("--steps", type=int, default=30, help="of a job")
    one.add_argument("--workers", type=int, default=cores)
    one.add_argument("--folder", help="where the jobs run")
    one = command("job-cut", "cut a job's log at every event and every byte of its last line")
    one.add_argument("--jobs", type=int, default=3)
    one.add_argument("--steps", type=int, default=30, help="of a job")
    one.add_argument("--stride", type=int, default=1, help="look at every n-th cut only")
    one.add_argument("--workers", type=int, default=cores)
    one.add_argument("--folder", help="where the jobs run")
    one = command("rot", "flip every bit of a log, cut it at every byte, move its lines about")
    one.add_argument("--bytes", type=int, default=20_000, help="of the log")
    one.add_argument("--workers", type=int, default=cores)
    one = command("fuzz", "coverage-guided fuzzing of what reads bytes; needs atheris")
    one.add_argument("--seconds", type=int, default=600, help="for each target")
    one.add_argument("--targets", nargs="*", help="codec recover reader upcast; by default all")
    one.add_argument("--corpus", help="a folder that keeps the inputs, to go on from")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one campaign; 0 if it found nothing wrong, 1 if it did, 2 if it can't run here."""
    asked = _parser().parse_args(argv)
    seed = asked.seed if asked.seed is not None else random.randrange(1 << 32)
    match asked.command:
        case "crash-model":
            from . import crash_model

            wrong = crash_model.main(asked.states, seed, asked.workers)
        case "mutants":
            from . import crash_model

            wrong = crash_model.main_mutants(seed, asked.budget)
        case "kill":
            from . import kill

            wrong = kill.main(asked.kills, seed, asked.workers, asked.folder)
        case "power-cut":
            from . import power_cut

            if reason := power_cut.missing():
                print(f"the power can't be cut here: {reason}", file=sys.stderr)
                return 2
            wrong = power_cut.main(asked.trials, seed, asked.workers, asked.writers)
        case "job-kill":
            from . import jobs

            wrong = jobs.main_kill(asked.kills, seed, asked.workers, asked.steps, asked.folder)
        case "job-cut":
            from . import jobs

            wrong = jobs.main_cut(
                asked.jobs, seed, asked.workers, asked.steps, asked.stride, asked.folder
            )
        case "rot":
            from . import rot

            wrong = rot.main(asked.bytes, seed, asked.workers)
        case "fuzz":
            from . import fuzz

            if reason := fuzz.missing():
                print(f"nothing can be fuzzed here: {reason}", file=sys.stderr)
                return 2
            wrong = fuzz.main(asked.seconds, seed, asked.targets, asked.corpus)
        case _:
            from . import crowd

            wrong = crowd.main(asked.kills, seed, asked.contenders, asked.readers, asked.folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
