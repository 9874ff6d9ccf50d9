"""Files from strangers: nothing is executed, nothing outside is written, memory is bounded, and each is one line.

Each case makes a file in `place` and returns what reads it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import wave
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.lib import format as npy
from test_packages import deb_bytes, link, own, tar_bytes, zip_bytes

from seqlab import schema
from seqlab.artifacts import read_array, read_json, read_tensors, write_json
from seqlab.data import packages
from seqlab.data.domains.motion import read_pickled
from seqlab.data.domains.speech import read_wav
from seqlab.data.packages import acquire
from seqlab.data.readers import LONGEST_LINE, read_lines
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.evaluation import scores
from seqlab.families import loading, saved
from seqlab.families.base import Use
from seqlab.families.saved import Recipe
from seqlab.naming import check_interpolations, checked_name, checked_target
from seqlab.settings import TrainerSettings
from seqlab.tracking import spool
from seqlab.yaml_files import read_yaml

USE = Use(TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None))
Read = Callable[[], Any]
Case = Callable[[Path], Read]
CASES: dict[str, Case] = {}
MEMORY = 400_000  # kilobytes that a refusal may take beyond what was taken before: libraries are imported, too

# What the process does while a case is read: audit events cannot be unhooked, so the hook lives with the module.
watched: list[Path] = []
seen: list[str] = []
EXECUTING = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect")


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not watched:
        return
    if event in EXECUTING:
        seen.append(f"{event} {arguments!r}")
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        path = Path(os.fsdecode(arguments[0])).absolute()
        if not path.is_relative_to(watched[0]) and path != Path(os.devnull) and "__pycache__" not in path.parts:
            seen.append(f"written {path}")


sys.addaudithook(hook)


@pytest.fixture
def fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setattr(packages, "MAX_UNPACKED", 1 << 20)
    seen.clear()
    yield place
    watched.clear()


def case(function: Case) -> Case:
    CASES[function.__name__.replace("_", " ")] = function
    return function


class Payload:
    """What a pickle can do."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.place}/executed",)


# Models


RECIPE = Recipe(
    "seqlab.families.rnn.RNN",
    {"hidden_size": 8, "layers": 1, "dropout": 0.0, "truncation": None, "density": "gaussian"},
    "gradient", "symbols", 9, None,
)  # fmt: skip


def model(place: Path, **changes: Any) -> Read:
    saved.save(place, RECIPE, {name: part.numpy() for name, part in RECIPE.build().state_dict().items()})
    write_json(place / saved.RECIPE, asdict(RECIPE) | changes)
    return lambda: loading.load(place, USE)


def json_of(text: str | bytes) -> Case:
    def make(place: Path) -> Read:
        read = model(place)
        (place / saved.RECIPE).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read

    return make


@case
def model_that_names_a_function(place: Path) -> Read:
    return model(place, target="os.system", parameters={"command": f"touch {place}/executed"})


@case
def model_that_names_a_module_of_its_own(place: Path) -> Read:
    (place / "evil.py").write_text(f"open({str(place / 'executed')!r}, 'w')\nclass RNN: pass\n")
    return model(place, target=f"seqlab.families.{place}/evil.RNN")


@case
def model_of_a_billion_layers(place: Path) -> Read:
    return model(place, parameters=RECIPE.parameters | {"layers": 10**9})


CASES |= {
    "model whose json is a pickle": lambda place: json_of(pickle.dumps(Payload(place)))(place),
    "model whose json is deep": json_of("[" * 1_000_000),
    "model whose json is deep in objects": json_of('{"target":' * 100_000),
    "model whose json has a number of a million digits": json_of('{"size": ' + "9" * 1_000_000 + "}"),
    "model whose json is a list": json_of("[1, 2]"),
    "model whose json is empty": json_of(""),
    "model whose json is of another encoding": json_of('{"target": "é"}'.encode("latin-1")),
}


@case
def model_whose_json_is_a_link_to_a_device_without_end(place: Path) -> Read:
    read = model(place)
    (place / saved.RECIPE).unlink()
    (place / saved.RECIPE).symlink_to("/dev/zero")
    return read


@case
def model_whose_json_is_a_pipe_that_nobody_writes(place: Path) -> Read:
    read = model(place)
    (place / saved.RECIPE).unlink()
    os.mkfifo(place / saved.RECIPE)
    return read


@case
def model_whose_json_is_a_link_to_itself(place: Path) -> Read:
    read = model(place)
    (place / saved.RECIPE).unlink()
    (place / saved.RECIPE).symlink_to(saved.RECIPE)
    return read


@case
def model_whose_json_has_a_terabyte_of_holes(place: Path) -> Read:
    read = model(place)
    os.truncate(place / saved.RECIPE, 1 << 40)
    return read


@case
def model_whose_lexicon_is_a_list(place: Path) -> Read:
    parameters = {"style": "plain", "pairs": 10, "iterations": 1, "probability": 0.3, "prior_weight": 1.0}
    recipe = Recipe("seqlab.families.rule_based.RuleBased", parameters, "rules", "pairs", 400, None)
    saved.save(place, recipe, {}, {"lexicon.json": b'{"induced": ["os.system"], "chosen": {}, "habits": {}}'})
    return lambda: loading.load(place, USE)


# Tensors


def tensors_of(header: Any, data: bytes = b"", length: int | None = None) -> Case:
    def make(place: Path) -> Read:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (place / "model.safetensors").write_bytes(
            struct.pack("<Q", len(text) if length is None else length) + text + data
        )
        return lambda: read_tensors(place / "model.safetensors")

    return make


def entry(shape: list[int], end: int, dtype: str = "F32", begin: int = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


CASES |= {
    "tensors whose header has no end": tensors_of({}, length=(1 << 63) - 1),
    "tensors whose header is longer than the file": tensors_of({}, length=1000),
    "tensors that end before their data": tensors_of({"a": entry([1000], 4000)}, bytes(100)),
    "tensors of more elements than there are atoms": tensors_of({"a": entry([1 << 40, 1 << 40], 4)}, bytes(4)),
    "tensors whose shape overflows": tensors_of({"a": entry([1 << 32, 1 << 32], 0)}),
    "tensors of a negative shape": tensors_of({"a": entry([-1], 4)}, bytes(4)),
    "tensors that share their bytes": tensors_of({"a": entry([2], 8), "b": entry([2], 8)}, bytes(8)),
    "tensors that lie outside": tensors_of({"a": entry([1], 1 << 50, begin=(1 << 50) - 4)}, bytes(4)),
    "tensors of a type that nobody knows": tensors_of({"a": entry([1], 8, "OBJECT")}, bytes(8)),
    "tensors of a type that numpy has not": tensors_of({"a": entry([4], 4, "F8_E4M3")}, bytes(4)),
    "tensors whose header is deep": tensors_of(b"[" * 1_000_000),
    "tensors that are a pickle": lambda place: tensors_of(pickle.dumps(Payload(place)), length=0)(place),
}


@case
def tensors_of_a_terabyte_of_holes(place: Path) -> Read:
    read = tensors_of({"a": entry([1 << 38], 1 << 40)})(place)
    os.truncate(place / "model.safetensors", (1 << 40) + 8 + len(json.dumps({"a": entry([1 << 38], 1 << 40)})))
    return read


@case
def tensors_saved_by_torch(place: Path) -> Read:
    torch.save({"a": Payload(place)}, place / "own.safetensors")
    return lambda: saved.tensors_of(place / "own.safetensors")


# Arrays


def array_of(content: Callable[[Path], bytes]) -> Case:
    def make(place: Path) -> Read:
        Sequences.from_arrays([np.arange(9)]).save(place)
        (place / "values.npy").write_bytes(content(place))
        return lambda: Sequences.load(place)

    return make


def header(text: str) -> bytes:
    body = text.encode("latin-1") + b"\n"
    return npy.magic(2, 0) + struct.pack("<I", len(body)) + body


def objects(place: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(place)], object), allow_pickle=True)
    return buffer.getvalue()


def archive_of_arrays(_: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, values=np.arange(9))
    return buffer.getvalue()


CASES |= {
    "array of objects": array_of(objects),
    "array that is a bare pickle": array_of(lambda place: pickle.dumps(Payload(place))),
    "array that is an archive": array_of(archive_of_arrays),
    "array that promises an exabyte": array_of(
        lambda _: header("{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976,)}") + bytes(8000)
    ),
    "array of a negative shape": array_of(
        lambda _: header("{'descr': '<i8', 'fortran_order': False, 'shape': (-9,)}") + bytes(80)
    ),
    "array whose header is code": array_of(lambda _: header("__import__('os').system('touch executed')")),
    "array whose header is deep": array_of(lambda _: header("(" * 9000)),
    "array whose header is of four gigabytes": array_of(lambda _: npy.magic(2, 0) + struct.pack("<I", (1 << 32) - 1)),
    "array of records": array_of(
        lambda _: header("{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (9,)}") + bytes(72)
    ),
    "array of text": array_of(lambda _: header("{'descr': '<U9', 'fortran_order': False, 'shape': (9,)}") + bytes(324)),
    "array that is empty": array_of(lambda _: b""),
}


@case
def array_that_is_a_device(place: Path) -> Read:
    (place / "values.npy").symlink_to("/dev/zero")
    return lambda: read_array(place / "values.npy", mapped=False)


@case
def offsets_that_point_backwards(place: Path) -> Read:
    Sequences.from_arrays([np.arange(9), np.arange(5)]).save(place)
    np.save(place / "offsets.npy", np.array([0, 1 << 60, 14]))
    return lambda: Sequences.load(place)


# Pickles that a public data set consists of


def pickled(content: Callable[[Path], Any]) -> Case:
    def make(place: Path) -> Read:
        data = content(place)
        body = data if isinstance(data, bytes) else pickle.dumps(data, protocol=2)
        start = header("{'descr': '|O', 'fortran_order': False, 'shape': ()}")
        (place / "watch.npy").write_bytes(start + body)
        return lambda: read_pickled(place / "watch.npy")

    return make


CASES |= {
    "data set that calls a function": pickled(Payload),
    "data set that names a builtin": pickled(lambda _: b"c__builtin__\neval\n(S'1'\ntR."),
    "data set that names by a path": pickled(lambda _: b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.tofile\x93."),
    "data set that calls what is allowed with anything": pickled(
        lambda _: b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I99999999999\ntS'b'\ntR."
    ),
    "data set of a codec that runs": pickled(lambda _: b"c_codecs\nencode\n(S'x'\nS'bz2'\ntR."),
    "data set of an extension": pickled(lambda _: b"\x80\x02\x82\x01."),
    "data set that ends early": pickled(lambda _: b"\x80\x02]q\x00(K\x01"),
    "data set whose stack is empty": pickled(lambda _: b"\x80\x02R."),
}


# Archives


def archive(name: str, content: Callable[[Path], bytes], **fields: Any) -> Case:
    def make(place: Path) -> Read:
        (place / name).write_bytes(content(place))
        return lambda: acquire(own(place / name, **fields), place / "raw", place / "cache")

    return make


def long_header(kind: bytes) -> bytes:
    """A gzipped tar whose member's extended header is zeros without end."""
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 1 << 32
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as zipped:
        zipped.write(info.tobuf(tarfile.GNU_FORMAT))
        zipped.write(bytes(1 << 24))
    return buffer.getvalue()


def sparse(_: Path) -> bytes:
    info = tarfile.TarInfo("holes")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "1"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    return buffer.getvalue()


def lying_zip(_: Path) -> bytes:
    content = bytearray(zip_bytes({"a": bytes(1 << 21)}))
    at = content.index(b"PK\1\2")
    content[at + 24 : at + 28] = struct.pack("<I", 10)  # its size, unpacked
    return bytes(content)


def overlapping(_: Path) -> bytes:
    """Members that share the same compressed bytes (Fifield 2019)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("0", bytes(1 << 19))
        first = zipped.infolist()[0]
        for number in range(1, 9):
            other = zipfile.ZipInfo(str(number))
            for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(other, field, getattr(first, field))
            zipped.filelist.append(other)
            zipped.NameToInfo[other.filename] = other
        zipped._didModify = True  # type: ignore[attr-defined]
    return buffer.getvalue()


BOMB = {"a": bytes(1 << 21)}
SLIP = {"../secret": b"overwritten"}
CASES |= {
    "zip that leads out": archive("x.zip", lambda _: zip_bytes(SLIP)),
    "wheel that leads out": archive("x-1-py3-none-any.whl", lambda _: zip_bytes({"x/../../secret": b"overwritten"})),
    "tar that leads out": archive("x.tar", lambda _: tar_bytes(SLIP, "w")),
    "tar of an absolute name": archive("x.tar.gz", lambda place: tar_bytes({f"{place}/../secret": b"overwritten"})),
    "deb that leads out": archive("x.deb", lambda _: deb_bytes(SLIP)),
    "archive in an archive that leads out": archive(
        "x.zip", lambda _: zip_bytes({"y.tar.xz": tar_bytes(SLIP, "w:xz")}), members=["y.tar.xz!**"]
    ),
    "zip of a link": archive("x.zip", lambda place: zip_bytes({"a": str(place.parent).encode()}, stat.S_IFLNK)),
    "zip of a device": archive("x.zip", lambda _: zip_bytes({"a": b""}, stat.S_IFCHR)),
    "tar of a link that leads out": archive("x.tar", lambda _: tar_bytes({}, "w", (link("a", "../../secret"),))),
    "tar of a hard link that leads out": archive(
        "x.tar", lambda place: tar_bytes({}, "w", (link("a", f"{place}/../secret", tarfile.LNKTYPE),))
    ),
    "tar of a link to itself": archive("x.tar", lambda _: tar_bytes({}, "w", (link("a", "b"), link("b", "a")))),
    "tar of a device": archive("x.tar", lambda _: tar_bytes({}, "w", (link("a", "", tarfile.BLKTYPE),))),
    "tar of a pipe": archive("x.tar", lambda _: tar_bytes({}, "w", (link("a", "", tarfile.FIFOTYPE),))),
    "zip bomb": archive("x.zip", lambda _: zip_bytes(BOMB)),
    "zip bomb that states another size": archive("x.zip", lying_zip),
    "zip bomb of members that overlap": archive("x.zip", overlapping),
    "wheel bomb": archive("x-1-py3-none-any.whl", lambda _: zip_bytes(BOMB)),
    "gzip bomb": archive("x.tgz", lambda _: tar_bytes(BOMB)),
    "bzip2 bomb": archive("x.tar.bz2", lambda _: tar_bytes(BOMB, "w:bz2")),
    "xz bomb": archive("x.tar.xz", lambda _: tar_bytes(BOMB, "w:xz")),
    "deb bomb": archive("x.deb", lambda _: deb_bytes(BOMB)),
    "bomb in an archive in an archive": archive(
        "x.zip", lambda _: zip_bytes({"y.zip": zip_bytes({"z.tgz": tar_bytes(BOMB)})}), members=["y.zip!z.tgz!**"]
    ),
    "tar of a terabyte of holes": archive("x.tar", sparse),
    "tar whose long name has no end": archive("x.tgz", lambda _: long_header(tarfile.GNUTYPE_LONGNAME)),
    "tar whose long link has no end": archive("x.tgz", lambda _: long_header(tarfile.GNUTYPE_LONGLINK)),
    "tar whose extended header has no end": archive("x.tgz", lambda _: long_header(tarfile.XHDTYPE)),
    "tar whose global header has no end": archive("x.tgz", lambda _: long_header(tarfile.XGLTYPE)),
    "deb whose member has no end": archive(
        "x.deb", lambda _: b"!<arch>\n" + f"{'data.tar.xz':<48}{9999999999:<10}`\n".encode() + bytes(99)
    ),
    "deb that is no archive": archive("x.deb", lambda place: pickle.dumps(Payload(place))),
}


@case
def archive_of_more_members_than_anyone_needs(place: Path) -> Read:
    read = archive("x.tgz", lambda _: tar_bytes({str(number): b"" for number in range(30)}))(place)

    def few() -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packages, "MAX_MEMBERS", 20)
            return read()

    return few


# Configuration


def component(**section: Any) -> Case:
    full = {"_target_": "seqlab.families.markov.Markov", "concentrations": [1.0], "prior_weights": [0.0]}
    return lambda _: lambda: schema.component(full | section, "family")


def target(text: str) -> Case:
    return lambda place: lambda: checked_target(text.format(place=place), "family._target_", saved.FAMILIES)


CASES |= {
    "target of another package": component(_target_="os.system"),
    "target with arguments": component(_args_=["touch executed"]),
    "target that is a partial": component(_partial_=True),
    "target that is an attribute": component(_target_="seqlab.families.markov.Markov.fit"),
    "target inside a parameter": component(prior_weights={"_target_": "os.system", "command": "touch executed"}),
    "target inside a list": component(prior_weights=[{"_target_": "os.system"}]),
    "target that is a list": component(_target_=["seqlab.families.markov.Markov"]),
    "target that is an interpolation": component(_target_="${oc.env:HOME}"),
    "target of an import of an import": component(_target_="seqlab.families.rule_based.json.loads"),
    "target by a path": target("seqlab.families.{place}/evil.Evil"),
    "target of a part that is no family": target("seqlab.data.packages.acquire"),
    "value that reads the environment": lambda _: lambda: check_interpolations({"a": [{"b": "x${oc.env:HOME}"}]}),
    "value that decodes": lambda _: lambda: check_interpolations({"a": "${oc.decode:${b}}"}),
    "value that calls by a name within a name": lambda _: lambda: check_interpolations({"a": "${oc.env:${b.c}}"}),
    "key that calls": lambda _: lambda: check_interpolations({"${now:%Y}": 1}),
    "domain that is a command": lambda _: lambda: checked_name("strings; touch executed", "domain"),
    "domain that is a substitution": lambda _: lambda: checked_name("$(touch executed)", "domain"),
    "domain that leads out": lambda _: lambda: checked_name("../../etc", "domain"),
    "domain that is an option": lambda _: lambda: checked_name("--help", "domain"),
    "domain of two lines": lambda _: lambda: checked_name("strings\ntouch executed", "domain"),
}


def yaml_of(text: str | bytes) -> Case:
    def make(place: Path) -> Read:
        (place / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return lambda: read_yaml(place / "params.yaml")

    return make


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
CASES |= {
    "yaml of a billion laughs": yaml_of(LAUGHS),
    "yaml that holds itself": yaml_of("a: &a [1, *a]\n"),
    "yaml that builds an object": yaml_of("a: !!python/object/apply:os.system ['touch executed']\n"),
    "yaml that names a module": yaml_of("a: !!python/name:os.system\n"),
    "yaml that is deep": yaml_of("[" * 200_000),
    "yaml that is deep in lines": yaml_of("".join(f"{' ' * i}a:\n" for i in range(3000))),
    "yaml in the middle of a merge": yaml_of("a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> branch\n"),
    "yaml of a day that never was": yaml_of("a: !!timestamp 2026-02-31\n"),
    "yaml of bytes": yaml_of(b"\xff\xfe\x00"),
    "yaml with a NUL": yaml_of(b"a: \0\n"),
}


# Tables, sound, pictures, text


def parquet(change: Callable[[bytearray], Any]) -> Case:
    def make(place: Path) -> Read:
        names = ("task", "metric", "example", "numerator", "denominator")
        pq.write_table(pa.table({name: list(range(1000)) for name in names}), place / scores.SCORES)
        content = bytearray((place / scores.SCORES).read_bytes())
        change(content)
        (place / scores.SCORES).write_bytes(content)
        return lambda: scores.read(place)

    return make


def lying_footer(content: bytearray) -> None:
    content[-8:-4] = struct.pack("<I", 0xFFFFFF)


def lying_metadata(content: bytearray) -> None:
    length = int.from_bytes(content[-8:-4], "little")
    start = len(content) - 8 - length
    content[start : start + 40] = b"\xff" * 40


CASES |= {
    "parquet whose footer is longer than the file": parquet(lying_footer),
    "parquet whose metadata are noise": parquet(lying_metadata),
    "parquet that is cut short": parquet(lambda content: content.__delitem__(slice(-40, None))),
}


@case
def sound_that_promises_more_than_there_is(place: Path) -> Read:
    with closing(wave.open(str(place / "a.wav"), "wb")) as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(8000)
        opened.writeframes(bytes(800))
    content = bytearray((place / "a.wav").read_bytes())
    content[40:44] = struct.pack("<I", 0xFFFFFF00)
    (place / "a.wav").write_bytes(content)
    return lambda: read_wav(place / "a.wav", 8000)


@case
def sound_that_is_a_pickle(place: Path) -> Read:
    (place / "a.wav").write_bytes(pickle.dumps(Payload(place)))
    return lambda: read_wav(place / "a.wav", 8000)


@case
def pictures_that_are_a_list_of_addresses(place: Path) -> Read:
    from seqlab.data.domains.video import read_clip

    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    port = server.getsockname()[1]
    (place / "a.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n")

    def read() -> Any:
        try:
            return read_clip(place / "a.mp4", 8)
        finally:
            with server, pytest.raises(BlockingIOError):
                server.accept()

    return read


@case
def pictures_that_are_a_pickle(place: Path) -> Read:
    from seqlab.data.domains.video import read_clip

    (place / "a.mp4").write_bytes(pickle.dumps(Payload(place)))
    return lambda: read_clip(place / "a.mp4", 8)


@case
def text_of_one_line_without_end(place: Path) -> Read:
    with gzip.open(place / "a.txt.gz", "wb", compresslevel=1) as file:
        for _ in range(LONGEST_LINE // (1 << 20) + 1):
            file.write(bytes(1 << 20))
    return lambda: list(read_lines(place / "a.txt.gz"))


@case
def notes_of_great_depth(place: Path) -> Read:
    (place / "run.json").write_text('{"run":' * 50_000 + "1" + "}" * 50_000)
    return lambda: read_json(place / "run.json")


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_one_line(fence: Path, name: str) -> None:
    read = CASES[name](fence)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watched.append(fence)
    try:
        with pytest.raises(UserError) as error:
            read()
    finally:
        watched.clear()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert not seen
    assert not list(fence.parent.rglob("executed"))
    assert not Path("executed").exists()
    assert (fence.parent / "secret").read_text() == "secret"
    assert sorted(part.name for part in fence.parent.iterdir()) == ["place", "secret"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


GOOD = {"event": "start", "time": 1, "uri": "sqlite:///x.db", "name": "a run"}
LINES = {
    "a number": "5",
    "a list": "[1]",
    "deep": "[" * 100_000,
    "no event": '{"time": 1}',
    "an event that nobody knows": '{"event": "run", "time": 1, "command": "touch executed"}',
    "a time that is text": json.dumps(GOOD | {"time": "now"}),
    "an address that is a list": json.dumps(GOOD | {"uri": ["os.system"]}),
    "an artifact of another place": '{"event": "artifact", "time": 2, "files": "../../../secret", "to": ""}',
    "a system that is text": '{"event": "system", "time": 2, "system": "rnn", "values": {}}',
    "an experiment that is a list": '{"event": "experiment", "time": 2, "experiment": ["strings"]}',
    "a model of another place": '{"event": "model", "time": 2, "files": "/etc", "name": "evil"}',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_of_a_tampered_journal_only_what_a_writer_could_have_written_is_read(fence: Path, line: str) -> None:
    folder = fence / "journals" / "key"
    folder.mkdir(parents=True)
    end = json.dumps({"event": "end", "time": 3, "status": "FINISHED"})
    (folder / "events.jsonl").write_text(f"{line}\n{json.dumps(GOOD)}\n{line}\n{end}\n")
    journal = spool.Journal(folder)
    assert [event.value["event"] for event in journal.events()] == ["start", "end"]
    assert journal.first() == GOOD
    assert [run.name for run in spool.kept(fence)] == ["a run"]


@pytest.mark.parametrize("text", ["", "5", "null", "[1]", "[" * 100_000, '{"evil": 1}', '{"refused": 1}'])
def test_of_tampered_states_nothing_is_taken(fence: Path, text: str) -> None:
    folder = fence / "journals" / "key"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text(json.dumps(GOOD) + "\n")
    (folder / "state.json").write_text(text)
    (fence / "status.json").write_text(text)
    assert spool.Journal(folder).state() == spool.Delivery(asked=True)
    assert spool.read_status(fence) == {"unreachable": {}, "refused": {}}
    assert spool.notice(fence) is None


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 100


def test_the_watch_sees_what_it_is_for(fence: Path) -> None:
    watched.append(fence)
    pickle.loads(pickle.dumps(Payload(fence)))
    subprocess.run(["true"], check=True)
    with open(fence.parent / "outside", "w"), open(fence / "inside", "w"):
        pass
    watched.clear()
    assert (fence / "executed").exists()
    assert [line.split()[0] for line in seen] == ["pickle.find_class", "os.system", "subprocess.Popen", "written"]
