"""The command line: one command per verb.

Imports stay inside the commands, so that `--help` answers at once.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tailor.cli import bench, data, ids, models, remembering, segmenting, serving, storing
from tailor.cli.plain import printable
from tailor.errors import DataError, TailorError

app = typer.Typer(
    help=(
        "Recommendations, explanations and honest measurement from an event log and a"
        " catalogue.\n\nNew here? `tailor demo` shows all of it on a planted shop."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data", help="Import, look at, make and split data sets.")
app.add_typer(
    bench.app, name="bench", help="Suites and their cards, claims of papers, races with peers."
)
app.add_typer(
    models.app, name="models", help="Weights of encoders and language models: list, pull, check."
)
app.add_typer(serving.keys_app, name="keys", help="API keys of the service: make, list, revoke.")
app.add_typer(
    ids.ids_app,
    name="ids",
    help="Semantic ids of a generative model: how they use their codebooks, what collides.",
)
app.add_typer(
    remembering.memory_app,
    name="memory",
    help="What a store remembers of a user: observe, recall, explain, correct, forget.",
)
app.add_typer(
    segmenting.segments_app,
    name="segments",
    help="Audiences and segments: who resembles a list of users, what a segment chooses.",
)
app.add_typer(
    storing.store_app,
    name="store",
    help="The service's database: load a data set, migrate, back up, erase a person.",
)

Model = Annotated[Path, typer.Argument(help="Folder of a fitted model.")]
HistoryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--history",
        help=(
            "Item ids, oldest first, separated by commas. Repeatable; an id with a comma in it"
            " needs an option of its own, or double quotes."
        ),
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option("--user", help="A user of --data, or of a model saved --with-histories."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="The data set the user's history is read from.")
]
TextOption = Annotated[
    str, typer.Option("--text", help="Words to search for (methods that use text).")
]
MomentOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        help='When it is asked, as in "2026-05-01 12:30" or now; left out: after the last event.',
    ),
]
ContextOption = Annotated[
    list[str] | None,
    typer.Option("--context", help="What else is known of who asks: NAME=VALUE. Repeatable."),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Item ids to leave out, written as for --history. Repeatable."),
]
DocsOption = Annotated[
    Path | None,
    typer.Option(help="File of the documents: id, text, title. JSON lines, CSV or Parquet."),
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="A setting: NAME=VALUE. Repeatable.")
]
DepthOption = Annotated[
    int, typer.Option(help="Documents found by words for a question without candidates.")
]
ListsOption = Annotated[
    Path | None,
    typer.Option(help="File for the lists: .run or .trec for a TREC run, .jsonl with texts."),
]
CONSOLE_PORT = 8080
Seed = Annotated[int, typer.Option(help="The same seed gives the same answer.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def demo(
    out: Annotated[
        Path,
        typer.Option(help="Folder for the shop's files, the data set, the split and the model."),
    ] = Path("tailor-demo"),
    users: Annotated[int, typer.Option(help="How many people the shop has.")] = 3000,
    items: Annotated[int, typer.Option(help="How many items it has.")] = 800,
    seed: Seed = 0,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve", help="Serve the shop, send simulated visitors, and put two models on trial."
        ),
    ] = False,
    port: Annotated[int, typer.Option(help="With --serve: port to listen on.")] = 8000,
    visits: Annotated[
        int | None,
        typer.Option(help="With --serve: end after so many; left out: go on until Ctrl-C."),
    ] = None,
    pause: Annotated[float, typer.Option(help="With --serve: seconds between two visits.")] = 0.02,
    console_too: Annotated[
        bool, typer.Option("--console", help="Serve the shop, and start the web console too.")
    ] = False,
    console_port: Annotated[
        int, typer.Option(help="With --console: port of the console.")
    ] = CONSOLE_PORT,
) -> None:
    """Show all of it on a planted shop: import, fit, measure, recommend and explain.

    With --serve: serve the shop to simulated visitors. With --console: see and steer it in a
    browser.
    """
    if serve or console_too:
        from tailor.cli.demo_service import run_served_demo

        run_served_demo(
            out, users, items, seed, port, visits, pause, console_port if console_too else None
        )
        return
    from tailor.cli.demo import run_demo

    run_demo(out, users, items, seed)


@app.command()
def start(
    events: Annotated[
        Path, typer.Argument(help="File of the events, or a folder that `data import` reads.")
    ],
    items: Annotated[
        Path | None, typer.Option(help="File of the items: ids, titles, texts, categories.")
    ] = None,
    columns: data.Columns = None,
    method: Annotated[
        str, typer.Option(help="A class such as TIGER, a pipeline file, `default` or `counting`.")
    ] = "default",
    settings: SettingsOption = None,
    out: Annotated[Path, typer.Option(help="Folder of all that is made.")] = Path("tailor-shop"),
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 8000,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the model at the end.")
    ] = True,
    device: Annotated[
        str, typer.Option(help="Where nets are trained: cpu, cuda, cuda:1, mps.")
    ] = "cpu",
    minutes: Annotated[
        float | None, typer.Option(help="Stop training a net after so long.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """From files of events and items to a served model: import, split, fit, measure, serve.

    A command that was stopped goes on where it was when it is given again.
    """
    from tailor.cli.starting import CHECKPOINTS, StartOptions, start_command
    from tailor.core.run import Run
    from tailor.progress import terminal

    mapping = data.pairs(columns, "columns", 'our column = the file\'s, as in "user_id=customer"')
    options = StartOptions(events, items, mapping, method, settings or (), out)
    run = Run(
        seed,
        device,
        progress=terminal,
        deadline_s=None if minutes is None else minutes * 60,
        checkpoints=out / CHECKPOINTS,
    )
    start_command(options, run, port if serve else None)


@app.command()
def fit(
    pipeline: Annotated[
        str,
        typer.Argument(
            help=(
                "A pipeline file (TOML), a class such as EASE, `default`, or `counting` (the same"
                " without a net)."
            )
        ),
    ],
    split: Annotated[Path, typer.Option(help="Folder of the split.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write the model to.")] = None,
    settings: SettingsOption = None,
    train_on: Annotated[str, typer.Option(help="train, train+valid or all.")] = "train",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say how long it would take and how much memory, and write nothing."
        ),
    ] = False,
    with_histories: Annotated[
        bool,
        typer.Option(
            help=(
                "Save people's histories with the model, so that --user works without --data. The"
                " service refuses such a model."
            )
        ),
    ] = False,
    data_folder: Annotated[
        Path | None, typer.Option("--data", help="The data set, where it has moved.")
    ] = None,
    seed: Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the folder where it is there already.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where nets are trained: cpu, cuda, cuda:1, mps.")
    ] = "cpu",
    dtype: Annotated[
        str,
        typer.Option(
            help="Number format of nets: float32, bfloat16, or auto for the faster one here."
        ),
    ] = "auto",
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Folder where nets in training keep their state: the same command goes on after a"
                " kill."
            )
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop training a net after so long.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads; left out: the cores there are, up to 8.")
    ] = None,
    json: Json = False,
) -> None:
    """Fit a method on a split's data and save it.

    With --dry-run: say what that takes.
    """
    from tailor.cli.fitting import FitOptions, dry_run_command, fit_command
    from tailor.core.run import Run
    from tailor.progress import terminal

    run = Run(
        seed,
        device,
        progress=terminal,
        deadline_s=None if minutes is None else minutes * 60,
        dtype=dtype,
        checkpoints=checkpoints,
    )
    if workers is not None:
        run = replace(run, workers=workers)
    options = FitOptions(pipeline, split, train_on, data_folder, settings or ())
    if dry_run:
        dry_run_command(options, run, json)
    elif out is None:
        raise DataError(
            "name a folder to write the model to: --out MODEL (or --dry-run, to see what it takes)"
        )
    else:
        fit_command(options, out, with_histories, overwrite, run, json)


@app.command()
def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            help=(
                "Folders of fitted models, or files of lists made elsewhere (user_id, item_id,"
                " score; TREC runs)."
            )
        ),
    ],
    split: Annotated[Path, typer.Option(help="Folder of the split.")],
    part: Annotated[str, typer.Option(help="test, or valid while settings are chosen.")] = "test",
    k: Annotated[str, typer.Option(help="List lengths, separated by commas.")] = "10",
    metrics: Annotated[
        str,
        typer.Option(
            help="HR, recall, precision, NDCG, MRR, MAP, and more (docs/guide/metrics.md)."
        ),
    ] = "HR,NDCG",
    baseline: Annotated[
        str | None, typer.Option(help="Model to test the others against (default: the first).")
    ] = None,
    per_user: Annotated[
        Path | None, typer.Option(help="Write every user's values to this .npz file.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page of its own with plots to this file.")
    ] = None,
    candidates: Annotated[
        str | None,
        typer.Option(
            help=(
                "Rank only: a file of lists, `new` (items never learned from), uniform:99 or"
                " popularity:99 negatives."
            )
        ),
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option("--data", help="The data set, where it has moved.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure fitted models by the one protocol: whole catalogue, seen items removed and kept,
    intervals, paired tests.
    """
    from tailor.cli.evaluating import EvaluateOptions, evaluate_command

    options = EvaluateOptions(split, data_folder, part, k, metrics, baseline, candidates)
    evaluate_command(models, options, per_user, html, json)


@app.command()
def recommend(
    model: Model,
    history: HistoryOption = None,
    user: UserOption = None,
    data_folder: DataOption = None,
    text: TextOption = "",
    moment: MomentOption = None,
    context: ContextOption = None,
    exclude: ExcludeOption = None,
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="Recommend items of the history too.")
    ] = False,
    k: Annotated[int, typer.Option("-k", help="Length of the list.")] = 10,
    json: Json = False,
) -> None:
    """Recommend to a person: by history, by user id, or to a stranger (give neither)."""
    from tailor.cli.asking import ListOptions, recommend_command
    from tailor.cli.queries import QueryOptions

    options = QueryOptions(history or (), user, data_folder, text, moment, context or ())
    recommend_command(model, options, ListOptions(k, tuple(exclude or ()), keep_seen), json)


@app.command()
def predict(
    model: Model,
    items: Annotated[
        list[str] | None,
        typer.Option(help="Item ids to predict for, written as for --history. Repeatable."),
    ] = None,
    history: HistoryOption = None,
    user: UserOption = None,
    data_folder: DataOption = None,
    text: TextOption = "",
    moment: MomentOption = None,
    context: ContextOption = None,
    values: Annotated[
        str,
        typer.Option(
            help="A number for each item of --history: a rating, or an answer as in 1,0,1."
        ),
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why, where the model can.")
    ] = False,
    json: Json = False,
) -> None:
    """Say how likely a person is to choose (click, like: what the model learned) each of these
    items.
    """
    from tailor.cli.predicting import predict_command
    from tailor.cli.queries import QueryOptions

    query = (history or (), user, data_folder, text, moment, context or ())
    options = QueryOptions(*query, values, has_values=True)
    predict_command(model, items, options, explain, json)


@app.command()
def explain(
    model: Model,
    item: Annotated[
        str | None, typer.Option(help="The item to explain; left out: the whole list, briefly.")
    ] = None,
    history: HistoryOption = None,
    user: UserOption = None,
    data_folder: DataOption = None,
    text: TextOption = "",
    moment: MomentOption = None,
    context: ContextOption = None,
    k: Annotated[
        int, typer.Option("-k", help="Length of the list that the item stands in, or would not.")
    ] = 10,
    json: Json = False,
) -> None:
    """Say why a person would get an item, how far that can be believed, and without what it would
    not be recommended.
    """
    from tailor.cli.asking import explain_command
    from tailor.cli.queries import QueryOptions

    options = QueryOptions(history or (), user, data_folder, text, moment, context or ())
    explain_command(model, item, options, k, json)


@app.command()
def profile(
    model: Model,
    history: HistoryOption = None,
    user: UserOption = None,
    data_folder: DataOption = None,
    text: Annotated[
        str, typer.Option(help="Words of the user about themselves (models that read text).")
    ] = "",
    moment: MomentOption = None,
    context: ContextOption = None,
    json: Json = False,
) -> None:
    """Describe a user: a summary, facts with their evidence, and attributes.

    Name the user with --user and --data, or pass --history.
    """
    from tailor.cli.answering import profile_command
    from tailor.cli.queries import QueryOptions

    options = QueryOptions(history or (), user, data_folder, text, moment, context or ())
    profile_command(model, options, json)


@app.command()
def generate(
    model: Model,
    history: HistoryOption = None,
    user: UserOption = None,
    data_folder: DataOption = None,
    text: Annotated[str, typer.Option(help="The task in words (models that read text).")] = "",
    moment: MomentOption = None,
    exclude: ExcludeOption = None,
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="Write about items of the history too.")
    ] = False,
    context: Annotated[
        list[str] | None,
        typer.Option(help="What else is known: NAME=VALUE, as item_id=X. Repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for a picture.")] = None,
    json: Json = False,
) -> None:
    """Write a text, or draw a picture, for a user, with the evidence it was made from.

    Name the user with --user and --data, or pass --history.
    """
    from tailor.cli.answering import generate_command
    from tailor.cli.queries import QueryOptions

    options = QueryOptions(history or (), user, data_folder, text, moment, context or ())
    generate_command(model, options, exclude, keep_seen, out, json)


@app.command()
def act(
    model: Model,
    history: HistoryOption = None,
    user: UserOption = None,
    data_folder: DataOption = None,
    moment: MomentOption = None,
    context: ContextOption = None,
    exclude: ExcludeOption = None,
    turns: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Answer the dialogues of a file: JSON lines with text, and perhaps speaker,"
                " item_ids, dialogue_id. Left out: talk here, a line a turn, until Ctrl-D."
            )
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Talk to an agent: an assistant, a tutor, a simulated user."""
    from tailor.cli.answering import act_command
    from tailor.cli.queries import QueryOptions

    options = QueryOptions(history or (), user, data_folder, "", moment, context or ())
    act_command(model, options, exclude, turns, json)


@app.command()
def rerank(
    question: Annotated[
        str | None, typer.Argument(help="One question; left out: those of --queries.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help=(
                "File of the questions: text, and perhaps id, candidates (ids of --docs, or"
                " documents of their own), profile and history. JSON lines, CSV or Parquet."
            )
        ),
    ] = None,
    docs: DocsOption = None,
    method: Annotated[
        str,
        typer.Option(help="A class such as E2Rank, a pipeline file, or a fitted model's folder."),
    ] = "EmbeddingReranker",
    settings: SettingsOption = None,
    depth: DepthOption = 100,
    limits: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Most that a language model may take for all questions together, as in"
                " calls=200,usd=0.5,seconds=60. What is left then keeps its order."
            )
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Documents shown and written a question.")] = 10,
    out: ListsOption = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Show every prompt and its answer.")
    ] = False,
    json: Json = False,
) -> None:
    """Order documents by how well they answer each question, by any reranker.

    A question without candidates gets the documents that share most words with it first.
    """
    from tailor.cli.reranking import FileOptions, rerank_command

    files = FileOptions(docs, queries, out, depth)
    rerank_command(question, method, files, settings or [], limits or [], k, trace, json)


@app.command()
def answer(
    question: Annotated[
        str | None, typer.Argument(help="One question; left out: those of --queries.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help=(
                "File of the questions: question or text, and perhaps id, answers (figures are"
                " printed then) and contexts that were retrieved beforehand."
            )
        ),
    ] = None,
    docs: DocsOption = None,
    method: Annotated[
        str,
        typer.Option(help="Rankify, a pipeline file of it, or the folder of a fitted model."),
    ] = "Rankify",
    settings: SettingsOption = None,
    k: Annotated[
        int, typer.Option("-k", help="Passages among which a right answer is looked for.")
    ] = 10,
    out: ListsOption = None,
    json: Json = False,
) -> None:
    """Answer questions from documents: retrieve passages, rerank them, and answer with what is
    cited.

    Without a language model the answer is a sentence of a passage.
    """
    from tailor.cli.questions import answer_command
    from tailor.cli.reranking import FileOptions

    files = FileOptions(docs, queries, out)
    answer_command(question, method, files, settings or [], k, json)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Class of the study, such as EvaluationSurvey.")],
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            help="What is measured: folders of models, pipeline files or classes; or NAME=METHOD."
        ),
    ] = None,
    data_folder: Annotated[Path | None, typer.Option("--data", help="The data set.")] = None,
    split: Annotated[
        Path | None, typer.Option(help="Folder of a split, in place of --data: its data set.")
    ] = None,
    settings: SettingsOption = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Run a study: a benchmark, an audit or an experiment over several methods.

    `tailor methods` lists the studies last, `tailor methods NAME` describes one.
    """
    from tailor.cli.studying import study_command
    from tailor.core.run import Run
    from tailor.progress import terminal

    run = Run(seed, progress=terminal)
    study_command(name, methods or [], data_folder, split, settings or [], run, json)


@app.command()
def tune(
    pipeline: Annotated[
        str,
        typer.Argument(
            help=(
                "A pipeline file (TOML), perhaps with a table [tune]; a class such as EASE,"
                " `default` or `counting`."
            )
        ),
    ],
    split: Annotated[Path, typer.Option(help="Folder of the split.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for best.toml, study.html and study.jsonl. A study that is there goes on."
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(help="Trials of the study in all; the first is the pipeline as written."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="How long to search now.")] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="What to choose by: HR, recall, precision, NDCG, MRR or MAP, and a depth."
        ),
    ] = "NDCG@10",
    seen: Annotated[
        str, typer.Option(help="removed: items of the history may not be answered; or kept.")
    ] = "removed",
    screen: Annotated[
        float | None,
        typer.Option(
            help=(
                "Try settings on this share of the users first; go on with those in the upper third"
                " there."
            )
        ),
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option("--data", help="The data set, where it has moved.")
    ] = None,
    seed: Seed = 0,
    device: Annotated[
        str, typer.Option(help="Where nets are trained: cpu, cuda, cuda:1, mps.")
    ] = "cpu",
    dtype: Annotated[
        str,
        typer.Option(
            help="Number format of nets: float32 or bfloat16; auto may differ from run to run."
        ),
    ] = "float32",
    json: Json = False,
) -> None:
    """Search a pipeline's settings on the validation part, and write the best pipeline. The test
    part is not looked at.
    """
    from tailor.bench.tune import Search
    from tailor.cli.tuning import tune_command
    from tailor.core.run import Run
    from tailor.progress import terminal

    run = Run(seed, device, progress=terminal, dtype=dtype)
    tune_command(
        pipeline, split, out, Search(trials, minutes, metric, seen, screen), data_folder, run, json
    )


@app.command()
def mcp(
    url: Annotated[
        str, typer.Option(help="Address of the running service.")
    ] = "http://127.0.0.1:8000",
    key_file: Annotated[
        Path | None,
        typer.Option(help="File that holds an API key; left out: the variable TAILOR_KEY."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="The only user for whom the tools act; left out: the agent names one."),
    ] = None,
) -> None:
    """Offer a running service to a language-model agent as tools (Model Context Protocol)."""
    from tailor.cli.agent_tools import mcp_command

    mcp_command(url, key_file, user)


@app.command()
def console(
    server: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = CONSOLE_PORT,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A further name under which browsers reach it. Repeatable."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Open it in a browser.")] = False,
) -> None:
    """Serve the web console of a service: see, explain and steer it in a browser.

    It is a process of its own, and a client of the HTTP API. Log in with a key of the service.
    """
    from tailor.cli.consoling import console_command

    console_command(server, host, port, name or (), show)


@app.command()
def serve(
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a fitted model; left out: the one that answered last."),
    ] = None,
    predictor: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Folder of a fitted model that predicts, for /v1/predict; left out: the one that"
                " answered last."
            )
        ),
    ] = None,
    reranker: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Folder of a fitted reranker, for /v2/rerank; left out: the one that answered last."
            )
        ),
    ] = None,
    database: serving.Database = serving.HERE,
    data_folder: Annotated[
        Path | None,
        typer.Option("--data", help="A data set to load first: people's events and the items."),
    ] = None,
    tenant: serving.Tenant = "default",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(help="Processes that answer.")] = 1,
    rate: Annotated[
        float, typer.Option(help="Requests a second that one key may make of one worker.")
    ] = 2000,
    models: Annotated[
        Path,
        typer.Option(
            help=(
                "Where tenants' models lie, each in the folder of its tenant: those may be"
                " registered over HTTP."
            )
        ),
    ] = Path("models"),
    explore: Annotated[
        float,
        typer.Option(
            help=(
                "Share of the places of a list given away to chance, so that one can learn from it."
            )
        ),
    ] = 0.0,
    meaning: Annotated[
        bool,
        typer.Option(
            "--meaning",
            help=(
                "Search items by meaning too, with the default encoder (tailor models pull minilm)."
            ),
        ),
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory/--no-memory",
            help="Serve the memories of users: what they said, and what is believed of them.",
        ),
    ] = True,
    first_key: Annotated[
        Path | None,
        typer.Option(
            "--first-key",
            help=(
                "File for the key of the first start, which may do everything. Left out: a terminal"
                " shows it; elsewhere it is written beside the database."
            ),
        ),
    ] = None,
) -> None:
    """Serve recommendations, search and people's data over HTTP, and take in events."""
    serving.serve_command(
        model,
        predictor,
        reranker,
        database,
        data_folder,
        tenant,
        host,
        port,
        workers,
        rate,
        models,
        explore,
        meaning,
        memory,
        first_key,
    )


@app.command()
def estimate(
    models: Annotated[list[Path], typer.Argument(help="Folders of fitted models.")],
    data_folder: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help=(
                "A data set with requests, impressions with propensities, and events that name"
                " requests."
            ),
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="The service's database, in place of --data.", envvar="TAILOR_DATABASE"),
    ] = None,
    tenant: serving.Tenant = "default",
    reward: Annotated[
        str | None,
        typer.Option(
            help="Which events count, as in \"action = 'buy'\"; left out: all that name a request."
        ),
    ] = None,
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="Let the models answer items of the history.")
    ] = False,
    most: Annotated[int, typer.Option(help="Requests replayed, at most.")] = 20_000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Estimate what models would have earned, by the log of what was shown with known
    probabilities, before anybody sees a list of theirs.
    """
    from tailor.cli.judging import estimate_command

    estimate_command(models, data_folder, database, tenant, reward, keep_seen, most, seed, json)


@app.command()
def refit(
    pipeline: Annotated[
        str,
        typer.Argument(
            help="A pipeline file (TOML), a class such as EASE, `default` or `counting`."
        ),
    ] = "default",
    database: serving.Database = serving.HERE,
    tenant: serving.Tenant = "default",
    out: Annotated[
        Path, typer.Option(help="Folder that models are written into, as OUT/TENANT/TIME.")
    ] = Path("models"),
    every: Annotated[
        float | None, typer.Option(help="Again and again, after so many minutes.")
    ] = None,
    after: Annotated[
        int, typer.Option(help="Only where so many events have arrived since the last time.")
    ] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Swap without comparing with the running model.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="Condition that events must meet to count, such as \"action = 'buy'\"; kept for"
            " the served histories and later refits, until an empty one. By default events that"
            " speak against their item (dislikes, refunds, negative values) do not count."
        ),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Learn anew from the service's store, compare with the running model on what happened since,
    and swap unless the new one is worse.
    """
    from tailor.cli.refitting import refit_command

    refit_command(pipeline, database, tenant, out, every, after, force, only, seed, json)


@app.command()
def pipeline(name: Annotated[str, typer.Argument(help="default or counting.")] = "default") -> None:
    """Print a pipeline file, to copy and change."""
    from tailor.pipeline.default import pipeline_file

    sys.stdout.write(pipeline_file(name).read_text(encoding="utf-8"))


@app.command()
def methods(
    name: Annotated[
        str | None,
        typer.Argument(help="A class, such as EASE, or a study. Left out: list all."),
    ] = None,
    json: Json = False,
) -> None:
    """List every method and study, or describe one: what it does, and every setting with its type,
    default and tuned range.
    """
    from tailor.cli.describing import method_command, methods_command

    if name is None:
        methods_command(json)
    else:
        method_command(name, json)


@app.command()
def doctor(database: serving.Database = serving.HERE, json: Json = False) -> None:
    """Look at what is installed, the models, the store and what it serves, and say what to do. Exit
    code 1 where something must be done.
    """
    from tailor.cli.doctor import doctor_command

    if not doctor_command(database, json):
        raise typer.Exit(1)


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM: passes through every `except Exception`, so that only clean-up runs."""


def _stop(number: int, _frame: object) -> None:
    raise _Stopped(number)


def run() -> None:
    """Run the command line; the entry point of the program.

    Errors become one line and exit code 2; Ctrl-C becomes 130. SIGTERM ends the process by that
    signal, after the same clean-up.
    """
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except TailorError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of a pipe went away
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        if error.filename is None:
            raise
        sys.stderr.write(f"error: {error.filename}: {error.strerror}\n")
        sys.exit(2)
    except _Stopped as stopped:
        if stopped.args[0] == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        sys.stderr.write("stopped; nothing was left half written\n")
        sys.exit(130)
