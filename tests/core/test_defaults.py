"""What "default" means, and encoders and language models as settings in files."""

from dataclasses import dataclass

import pytest

from tailor.core.defaults import encoder
from tailor.core.specs import build, build_part, spec
from tailor.errors import ModelError
from tailor.ports.base import Encoder
from tailor.ports.configuration import cache_folder
from tailor.ports.weights import models_folder
from tailor.text.cached import CachedEncoder
from tailor.text.http_encoder import HTTPEncoder
from tailor.text.sentences import SentenceEncoder


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    for name in (
        "TAILOR_CONFIG",
        "TAILOR_ENCODER",
        "TAILOR_MODELS",
        "TAILOR_CACHE",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_default_is_minilm_then_the_file_then_the_variable(tmp_path, monkeypatch):
    assert encoder() == SentenceEncoder("minilm")
    (tmp_path / "tailor.toml").write_text(
        '[encoder]\nclass = "text.http_encoder.HTTPEncoder"\nmodel = "m"\nbase_url ='
        ' "http://localhost:8000/v1"\n'
    )
    assert encoder() == HTTPEncoder("m", "http://localhost:8000/v1")
    (tmp_path / "mine.toml").write_text(
        'class = "text.sentences.SentenceEncoder"\nmodel = "other"\n'
    )
    monkeypatch.setenv("TAILOR_ENCODER", str(tmp_path / "mine.toml"))
    assert encoder() == SentenceEncoder("other")
    monkeypatch.setenv("TAILOR_ENCODER", "SentenceEncoder")
    assert encoder() == SentenceEncoder()
    given = SentenceEncoder("given")
    assert encoder(given) is given


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[encodr]\n", 'Did you mean "encoder"'),
        ("encoder = 3\n", "encoder = 3"),
        ("[", "cannot be read"),
        ('[encoder]\nclass = "EASE"\n', "EASE"),
        ('[encoder]\nmodel = "x"\n', "needs a line class"),
        ('[encoder]\nclass = "SentenceEncoder"\nmodl = "x"\n', 'Did you mean "model"'),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, text, said):
    (tmp_path / "tailor.toml").write_text(text)
    with pytest.raises(ModelError) as caught:
        encoder()
    assert said in str(caught.value)


def test_a_setting_that_is_no_encoder_and_a_missing_file_are_named(monkeypatch):
    with pytest.raises(ModelError, match=r"'minilm'.*default"):
        encoder("minilm")
    monkeypatch.setenv("TAILOR_CONFIG", "nowhere.toml")
    with pytest.raises(ModelError, match=r"nowhere\.toml"):
        encoder()


def test_folders_come_from_variables_then_the_file_then_home(tmp_path, monkeypatch):
    assert (
        models_folder() == tmp_path / ".local/share/tailor/models"
        and cache_folder() == tmp_path / ".cache/tailor"
    )
    (tmp_path / "tailor.toml").write_text('models_folder = "m"\ncache_folder = "~/c"\n')
    assert str(models_folder()) == "m" and cache_folder() == tmp_path / "c"
    monkeypatch.setenv("TAILOR_MODELS", "/elsewhere")
    assert str(models_folder()) == "/elsewhere"


def test_encoders_nest_in_files_and_come_back_the_same():
    one = CachedEncoder(HTTPEncoder("m", "http://localhost:8000/v1", "MY_KEY", dims=64), "folder")
    about = spec(one)
    assert (
        about["class"] == "text.cached.CachedEncoder" and about["inner"]["api_key_env"] == "MY_KEY"
    )
    assert build_part(about) == one
    with pytest.raises(ModelError, match="not a method"):
        build(about)


def test_a_part_with_a_secret_or_no_settings_is_not_written_down():
    @dataclass(frozen=True)
    class Leaky(SentenceEncoder):
        api_key: str = "sk-1"

    class Plain(Encoder):
        space = "x"

        def encode(self, texts): ...

    with pytest.raises(ModelError, match="environment variable") as caught:
        spec(Leaky())
    assert "sk-1" not in str(caught.value)
    with pytest.raises(ModelError, match="dataclass"):
        spec(Plain())
