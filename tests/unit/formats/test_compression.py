from __future__ import annotations

import gzip
import random

import pytest
import zstandard

from tasks_service.errors import InvalidRequestError
from tasks_service.formats.compression import EXTENSIONS, compressor

CONTENT = [b"", b"a,b\r\n", b"1,2\r\n" * 50_000, random.Random(1).randbytes(300_000), b"z"]
UNPACK = {
    "none": bytes,
    "gzip": gzip.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


def packed(name: str, content: list[bytes]) -> bytes:
    stream = compressor(name)
    return b"".join(stream.feed(piece) for piece in content) + stream.finish()


@pytest.mark.parametrize("name", EXTENSIONS)
def test_what_was_fed_comes_back(name: str) -> None:
    assert UNPACK[name](packed(name, CONTENT)) == b"".join(CONTENT)


@pytest.mark.parametrize("name", EXTENSIONS)
def test_nothing_fed_is_still_a_whole_file(name: str) -> None:
    assert UNPACK[name](packed(name, [])) == b""


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    assert packed(name, CONTENT) == packed(name, CONTENT)


def test_gzip_carries_neither_time_nor_name() -> None:
    header = packed("gzip", CONTENT)[:10]
    assert header[3] == 0
    assert header[4:8] == bytes(4)


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_extension_says_how_it_is_packed(name: str) -> None:
    assert compressor(name).extension == {"none": "", "gzip": ".gz", "zstd": ".zst"}[name]


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_cut_file_does_not_unpack(name: str) -> None:
    cut = packed(name, CONTENT)[:-4]
    if name == "gzip":
        with pytest.raises(EOFError):
            gzip.decompress(cut)
    else:
        stream = zstandard.ZstdDecompressor().decompressobj()
        stream.decompress(cut)
        assert not stream.eof


def test_an_unknown_compression_is_refused_with_what_there_is() -> None:
    with pytest.raises(InvalidRequestError, match="none, gzip, zstd"):
        compressor("brotli")
