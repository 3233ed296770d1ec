"""The command `mithridate`: certify votes that already exist, verify a finished run, ask a repaired network, keep a
run's findings, check configuration files, write the option documents."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mithridate import __version__
from mithridate.errors import InputError
from mithridate.options.certificates import CERTIFICATES

GOODNET = (
    "A GoodNet is a network that the workflow has repaired, a folder results/…/goodnet. Where there are C classes it"
    " answers with one of them, 0 to C − 1, or with C, which means: backdoored input."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; 0 when all is well, 1 with one sentence where the user can mend something."""
    parsed = _parser().parse_args(arguments)
    try:
        code = int(parsed.run(parsed))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, head for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mithridate", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    certify = commands.add_parser("certify", help="certificates and summary for a file of scores or votes")
    certify.add_argument(
        "scores", type=Path, help="scores.h5, an .npz or a .pth file with labels and scores (or votes)"
    )
    certify.add_argument("--out", type=Path, help="folder for the tables (default: beside the file)")
    certify.add_argument(
        "--methods",
        nargs="+",
        choices=list(CERTIFICATES),
        help="default: dpa and runoff, or finite and finite_runoff where the file holds shifts of overlapping subsets;"
        " without the run-offs where only votes are given",
    )
    certify.add_argument(
        "--collective",
        nargs="+",
        type=_positive,
        default=[],
        metavar="RADIUS",
        help="also certify all test images together against attacks of these sizes (disjoint subsets only)",
    )
    certify.add_argument("--confidence", type=float, default=0.95, help="level of the intervals (default: 0.95)")
    certify.set_defaults(run=_certify)

    verify = commands.add_parser(
        "verify", help="train a few members again from shuffled files and compare their weights"
    )
    verify.add_argument("family", type=Path, help="a family's folder, e.g. results/digits/dpa/clean/k50d1")
    verify.add_argument("--members", type=_positive, default=3, help="how many members, drawn at random (default: 3)")
    verify.add_argument("--seed", type=int, help="seed of the draw and of the shuffle (default: a new one, printed)")
    verify.set_defaults(run=_verify)

    badnet = commands.add_parser("badnet", help="ask a repaired network (GoodNet)", description=GOODNET)
    asking = badnet.add_subparsers(required=True, metavar="COMMAND")
    classify = asking.add_parser(
        "classify",
        help="what it says of a file of images, or of one picture",
        description=f"{GOODNET} Of an HDF5 file, whatever its name, the shares that are flagged and that get the file's"
        " labels are printed; of a PNG or JPEG, on one line, the answer.",
    )
    classify.add_argument("file", type=Path, help="HDF5 with data [N,C,H,W], 0 to 255, and label; or a PNG or JPEG")
    classify.add_argument(
        "--goodnet", type=Path, required=True, metavar="FOLDER", help="e.g. results/…/goodnet, or a copy of it"
    )
    classify.add_argument("--model", help="its architecture, where that is one of your own: package.module:function")
    classify.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: auto")
    classify.add_argument("--confidence", type=float, default=0.95, help="level of the intervals (default: 0.95)")
    classify.add_argument("--out", type=Path, help="also write index, label and output of every image to this CSV file")
    classify.set_defaults(run=_classify)

    record = commands.add_parser("record", help="keep a run's tables and findings in docs/results")
    record.add_argument(
        "results", type=Path, help="folder with final tables and runs/PART.json, made here or elsewhere"
    )
    record.add_argument("name", help="of the folder in docs/results")
    record.add_argument(
        "--configfile",
        nargs="*",
        help="in place of runs/PART.json: what the run was configured with (none named: the defaults); its benchmarks"
        " and artefacts must lie in the folder",
    )
    record.set_defaults(run=_record)

    rerecord = commands.add_parser("rerecord", help="make docs/results anew from the tables that are kept there")
    rerecord.set_defaults(run=_rerecord)

    check = commands.add_parser("check", help="read configuration files, laid over one another, and say what is wrong")
    check.add_argument("files", type=Path, nargs="+", metavar="FILE", help="YAML or JSON, as for --configfile")
    check.set_defaults(run=_check)

    config = commands.add_parser("config", help="write config.yaml, schema.json and README.md from the option models")
    config.add_argument("--folder", type=Path, default=Path("config"))
    config.set_defaults(run=_config)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return number


def _certify(parsed: argparse.Namespace) -> int:
    from mithridate.standalone import certify_file

    certify_file(parsed.scores, parsed.out, parsed.methods, parsed.confidence, parsed.collective)
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    from mithridate.verify import verify

    return 0 if verify(parsed.family, parsed.members, parsed.seed) else 1


def _classify(parsed: argparse.Namespace) -> int:
    from mithridate.repair.classify import classify

    classify(parsed.file, parsed.goodnet, parsed.device, parsed.confidence, parsed.out, parsed.model)
    return 0


def _record(parsed: argparse.Namespace) -> int:
    from mithridate.findings.record import record

    print(f"recorded in {record(parsed.results, parsed.name, files=parsed.configfile)}")
    return 0


def _rerecord(parsed: argparse.Namespace) -> int:
    from mithridate.findings.record import again

    again()
    return 0


def _check(parsed: argparse.Namespace) -> int:
    from mithridate.options.reading import check

    check(parsed.files)
    print("valid")
    return 0


def _config(parsed: argparse.Namespace) -> int:
    from mithridate.options.document import write

    write(parsed.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
