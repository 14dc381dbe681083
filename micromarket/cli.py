"""The command ``micromarket``. Exit status: 0 done, 2 input or configuration is wrong, 1 anything else.

A signal that stops it: 128 and the signal's number.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from micromarket.artefacts import STAGES
from micromarket.errors import EXIT_DONE, EXIT_FAILED, MicromarketError, MicromarketWarning

# Commands import what they need: `--help` and a mistyped option are answered at once.


def _init(args: argparse.Namespace) -> None:
    from micromarket.starter import write_starter

    written = write_starter(args.dir)
    print(f"{len(written)} files: describe your company in {written[0]}, fill the tables, then")
    print(f"micromarket check {written[0]}")


def _notebooks(args: argparse.Namespace) -> None:
    from micromarket.starter import copy_notebooks

    for path in copy_notebooks(args.dir, args.plan):
        print(path)


def _check(args: argparse.Namespace) -> None:
    from micromarket.config import read_settings
    from micromarket.runner.preview import check

    print(check(read_settings(args.plan, args.as_of)).to_text())
    print("\nno problem found")


def _run(args: argparse.Namespace) -> None:
    from micromarket.operation import run_unattended

    command = ["micromarket", *args.argv]
    print(
        run_unattended(
            args.plan, args.out, until=args.until, resume=args.resume, as_of=args.as_of, log=args.log, command=command
        )
    )


def _status(args: argparse.Namespace) -> int:
    from micromarket.operation.status import state_of

    state = state_of(args.out, args.max_age)
    print(json.dumps(state.to_json(), indent=1, ensure_ascii=False) if args.json else state.to_text())
    return EXIT_DONE if state.sound else EXIT_FAILED


def _history(args: argparse.Namespace) -> None:
    from micromarket.operation.history import history_of

    found = history_of(args.out)
    if args.to is not None:
        from micromarket.exports import write_table

        print(write_table(found.table, args.to))
    else:
        print(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if args.json else found.to_text())


def _pin(args: argparse.Namespace) -> None:
    from micromarket.config import read_settings
    from micromarket.pinned import pin
    from micromarket.runner.inputs import settled

    settings = settled(read_settings(args.plan, args.as_of), Path(args.out).absolute())
    pin(settings, Path(args.run_dir).absolute())
    (Path(args.run_dir) / "notebooks").mkdir(exist_ok=True)  # papermill makes no folders
    print(settings.as_of)


def _simulate(args: argparse.Namespace) -> None:
    from micromarket.simulate import simulate

    given = {k: getattr(args, k) for k in ("markets", "customers", "weeks", "relationship", "preset")}
    simulate(
        args.dir, seed=args.seed, endogenous=args.endogenous, no_response=args.no_response, sparse=args.sparse,
        **{k: v for k, v in given.items() if v is not None},
    )  # fmt: skip
    print(args.dir)


def _readout(args: argparse.Namespace) -> None:
    from micromarket.readout import readout

    regions = None
    if args.plan is not None:
        from micromarket.config import read_settings
        from micromarket.load import open_dataset

        with open_dataset(read_settings(args.plan)) as dataset:
            if "region" in dataset.markets.columns:
                regions = dataset.markets.set_index("market_id")["region"]
    from micromarket.proof.files import read_tests, readouts_in_words, sort_files, write_experiments

    files = sort_files(args.actuals)
    found = readout(args.run, files.outcomes, regions, args.through)
    tests = read_tests(args.run, files, args.through)
    if args.out is not None:
        from micromarket.exports import write_table

        write_table(found.to_frame(), args.out)
    print(found.to_text())
    if args.page is not None:
        from micromarket.report.page_progress import write_page_with_progress

        print(write_page_with_progress(args.run, found, args.page))
    if tests:
        print("\n" + readouts_in_words(tests, found.currency))
    if args.results is not None:
        from micromarket.proof.results import figures
        from micromarket.report.proof_results import write_page

        print(write_page([figures(t, found.currency) for t in tests], found.currency, args.results))
    if args.experiments is not None:
        print(write_experiments(tests, args.experiments))


def _field(args: argparse.Namespace) -> None:
    if args.do_field == "export":
        from micromarket.field import export_sheets

        for path in export_sheets(args.run, args.out):
            print(path)
    else:
        from micromarket.field import import_answers

        print(import_answers(args.run, args.files, args.out, command=["micromarket", *args.argv]))


def _export(args: argparse.Namespace) -> None:
    if args.what == "tables":
        _write_back(args)
        return
    from micromarket import exports

    table = {"quota": exports.quota_table, "crm": exports.crm_table}[args.what](args.run)
    print(exports.write_table(table, args.out))


def _write_back(args: argparse.Namespace) -> None:
    from micromarket.config import WriteBack, read_settings
    from micromarket.errors import InputError, Problem
    from micromarket.write_back import write_back

    if args.to is not None:
        to, file = WriteBack(args.to, args.schema, args.prefix), "--to"
    else:
        settings = read_settings(args.plan)
        file = settings.path.name
        if settings.write_back is None:
            raise InputError([Problem(file, "this section, or --to URL", column="write_back")])
        to = settings.write_back
    for table, rows in write_back(args.run, to, file).items():
        print(f"{table:<32}{rows:>12,} {'row' if rows == 1 else 'rows'}")


def _leads(args: argparse.Namespace) -> None:
    from micromarket.leads import write_leads

    print(write_leads(args.run, args.out, args.plan))


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no day such as 2026-09-30") from None


def _at_least(lowest: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        value = int(text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{text} is below {lowest}")
        return value

    whole.__name__ = "whole number"
    return whole


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("micromarket")
    except PackageNotFoundError:
        return "not installed"


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    # with the top-level parser's default None, `micromarket run --debug` and `micromarket --debug run` both work
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    parser = argparse.ArgumentParser(
        "micromarket", description="One opportunity plan that sales and marketing both sign.", parents=[common]
    )
    parser.add_argument("--version", action="version", version=f"micromarket {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(do=do)
        return sub

    init = command("init", _init, "a starter plan.yml with comments, and an empty template of every table")
    init.add_argument("dir", metavar="DIR")

    text = "copies the notebooks, to explore a run with them or to change them"
    books = command("notebooks", _notebooks, text)
    books.add_argument("dir", metavar="DIR", help="folder of the copies; nothing in it is overwritten")
    books.add_argument("--plan", metavar="PLAN.yml", help="what they shall read; runs are taken from reports beside it")

    day = "day of the data, instead of as_of in PLAN.yml; later rows are left out"
    check = command("check", _check, "reads and validates everything, writes nothing; lists every problem at once")
    check.add_argument("plan", metavar="PLAN.yml")
    check.add_argument("--as-of", type=_day, metavar="DAY", help=day)

    run = command("run", _run, "makes the plan; the last line on standard output is the run folder")
    run.add_argument("plan", metavar="PLAN.yml")
    run.add_argument("--out", default="reports", metavar="DIR", help="folder of run folders (default: reports)")
    run.add_argument("--until", choices=STAGES, metavar="STAGE", help=f"last stage to run: {', '.join(STAGES)}")
    run.add_argument("--resume", action="store_true", help="take over stages that nothing has changed for")
    run.add_argument("--as-of", type=_day, metavar="DAY", help=day)
    run.add_argument("--log", metavar="FILE", help="append a line of JSON for each event")

    simulate = command("simulate", _simulate, "a synthetic company in the input format, with its truth in DIR/truth/")
    simulate.add_argument("dir", metavar="DIR")
    for option, lowest in (("--markets", 1), ("--customers", 1), ("--weeks", 1)):
        simulate.add_argument(option, type=_at_least(lowest), metavar="N")
    simulate.add_argument("--seed", type=_at_least(0), default=1, metavar="S")
    simulate.add_argument("--relationship", choices=("contractual", "non-contractual"))
    simulate.add_argument("--preset", metavar="NAME", help="a ready-made company, such as telecom")
    simulate.add_argument("--endogenous", action="store_true", help="spend follows demand")
    simulate.add_argument("--no-response", action="store_true", help="spend has no effect at all")
    simulate.add_argument("--sparse", action="store_true", help="many markets with hardly any customers")

    readout = command("readout", _readout, "what a plan has brought so far, against its targets")
    readout.add_argument("run", metavar="RUN", help="a finished run folder")
    readout.add_argument(
        "--actuals",
        nargs="+",
        required=True,
        metavar="FILE",
        help="tables like outcomes; or a folder of outcomes…, spend… and tests… (tests designed elsewhere)",
    )
    readout.add_argument("--plan", metavar="PLAN.yml", help="the company's plan.yml: regions as it has them now")
    readout.add_argument(
        "--through", type=_day, metavar="DAY", help="last day that the actuals cover (default: whole periods)"
    )
    readout.add_argument("--out", metavar="FILE", help="every level with band, causes and projection (csv or xlsx)")
    readout.add_argument(
        "--experiments", metavar="FILE", help="what tests found, as rows of the table experiments (csv)"
    )
    readout.add_argument("--page", metavar="FILE", help="the run's page for the field, with progress on it (html)")
    readout.add_argument("--results", metavar="FILE", help="what tests brought, as a page for people (html or md)")
    _more_commands(command, common)
    _of_operation(command)
    return parser


def _of_operation(command: Callable[[str, Callable[..., Any], str], argparse.ArgumentParser]) -> None:
    """What a schedule needs beside the run itself."""
    folder = "folder of run folders"
    text = "what runs, what failed last and why, how old the latest plan is; exit status 1 where something is amiss"
    status = command("status", _status, text)
    status.add_argument("out", metavar="OUT", help=folder)
    status.add_argument("--max-age", type=_at_least(0), metavar="DAYS", help="most days since the latest plan was made")
    status.add_argument("--json", action="store_true", help="for programs")
    history = command("history", _history, "runs over time: how they went, how long they took, headline figures")
    history.add_argument("out", metavar="OUT", help=folder)
    history.add_argument("--json", action="store_true", help="for programs")
    history.add_argument("--out", dest="to", metavar="FILE", help="csv or xlsx")
    text = "settles dates and previous run for notebooks that a scheduler runs one by one into RUN_DIR"
    pin = command("pin", _pin, text)
    pin.add_argument("plan", metavar="PLAN.yml")
    pin.add_argument("run_dir", metavar="RUN_DIR")
    pin.add_argument("--as-of", type=_day, metavar="DAY", help="day of the data, instead of as_of in PLAN.yml")
    pin.add_argument("--out", default="reports", metavar="DIR", help="folder of run folders (default: reports)")


def _more_commands(
    command: Callable[[str, Callable[..., Any], str], argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """What is done with a finished run: the field round, exports, the restricted list of leads."""
    finished = "a finished run folder"
    steps = command("field", _field, "the field round: target sheets out, answers in").add_subparsers(
        dest="do_field", required=True, metavar="STEP"
    )
    text = "a target sheet a territory (xlsx, a tab a manager); only the answer cells are open"
    out = steps.add_parser("export", help=text, description=text, parents=[common])
    out.add_argument("run", metavar="RUN", help=finished)
    out.add_argument("--out", required=True, metavar="DIR", help="folder of the sheets; nothing is overwritten")
    text = "blends the answers in, within caps, sums kept; the last line is the new run folder"
    back = steps.add_parser("import", help=text, description=text, parents=[common])
    back.add_argument("run", metavar="RUN", help="the run that the sheets came from; it stays as it is")
    back.add_argument("files", nargs="+", metavar="FILE", help="answered sheets")
    back.add_argument("--out", metavar="DIR", help="folder of run folders (default: the one of RUN)")

    kinds = command("export", _export, "tables as other systems import them").add_subparsers(
        dest="what", required=True, metavar="WHAT"
    )
    for name, text in (
        ("quota", "component, territory, period, value: for a quota system (csv or xlsx)"),
        ("crm", "markets by territory with target, play and leads due: for a CRM (csv or xlsx)"),
    ):
        kind = kinds.add_parser(name, help=text, description=text, parents=[common])
        kind.add_argument("run", metavar="RUN", help=finished)
        kind.add_argument("--out", required=True, metavar="FILE")
    text = "every published table to a database, in one transaction; a run that is there already is replaced"
    kind = kinds.add_parser("tables", help=text, description=text, parents=[common])
    kind.add_argument("run", metavar="RUN", help=finished)
    place = kind.add_mutually_exclusive_group(required=True)
    place.add_argument("--to", metavar="URL", help="such as 'postgres://${DB_USER}:${DB_PASSWORD}@host/shop', quoted")
    place.add_argument("--plan", metavar="PLAN.yml", help="where its section write_back says")
    kind.add_argument("--schema", metavar="NAME", help="default: the database's own")
    kind.add_argument("--prefix", default="micromarket_", metavar="TEXT", help="of the tables' names")

    text = "open leads by their odds to buy times their value, person by person, into a file that only you can read"
    leads = command("leads", _leads, text)
    leads.add_argument("run", metavar="RUN", help=finished)
    leads.add_argument("--out", required=True, metavar="FILE", help="csv, xlsx or parquet, outside every run folder")
    leads.add_argument("--plan", metavar="PLAN.yml", help="default: the one that RUN was made from")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status (argparse exits with 2 by itself)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(argv)
    args.argv = argv
    debug = getattr(args, "debug", False)
    if not debug:
        warnings.simplefilter("ignore")  # of libraries; ours are told in the plan
        warnings.filterwarnings("default", category=MicromarketWarning)
    try:
        return int(args.do(args) or EXIT_DONE)
    except MicromarketError as error:
        print(error, file=sys.stderr)
        if debug:
            traceback.print_exc()
        return error.exit_status
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt as stop:
        print("stopped; the same command with --resume goes on from here", file=sys.stderr)
        return int(getattr(stop, "status", 130))  # 128 and the signal's number
    except Exception as error:
        if debug:
            traceback.print_exc()
        else:
            text = (str(error).splitlines() or [""])[0]
            if type(error).__name__ == "OperationalError":  # as the drivers of databases call it
                text = f"the database stopped answering ({text}); once it answers, run again (run: with --resume)"
                print(text, file=sys.stderr)
            else:
                print(f"{type(error).__name__}: {text} (run with --debug for the traceback)", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
