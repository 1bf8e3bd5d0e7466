"""Files that are not native checkpoints are refused, each with its reason."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from radvqa_jax.checkpoints.npz import BFLOAT16, NpzReader, count_nonfinite, write_npz

ARRAYS = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.arange(4).astype(BFLOAT16)}


def open_npz(path: Path | str) -> NpzReader:
    return NpzReader(path, kind="a test file", remedy="Make it again.")


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def write_zip(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_is_read_bit_for_bit_in_its_dtype(tmp_path: Path, compress: bool) -> None:
    write_npz(tmp_path / "x.npz", ARRAYS.items(), compress=compress)
    with open_npz(tmp_path / "x.npz") as reader:
        assert {name: (leaf.shape, leaf.dtype) for name, leaf in reader.shapes.items()} == {
            name: (array.shape, array.dtype) for name, array in ARRAYS.items()
        }
        for name, array in ARRAYS.items():
            read = reader.read(name)
            assert read.dtype == array.dtype and read.tobytes() == array.tobytes()


def test_numpy_reads_it_too_and_sees_bfloat16_as_two_raw_bytes(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", ARRAYS.items())
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["a/b"], ARRAYS["a/b"])
        assert file["c"].dtype == np.dtype("V2")
        np.testing.assert_array_equal(file["c"].view(BFLOAT16), ARRAYS["c"])


def test_fortran_order_and_scalars_keep_their_values(tmp_path: Path) -> None:
    arrays = {"f": np.asfortranarray(ARRAYS["a/b"]), "s": np.array(2.5, BFLOAT16)}
    write_npz(tmp_path / "x.npz", arrays.items())
    with open_npz(tmp_path / "x.npz") as reader:
        np.testing.assert_array_equal(reader.read("f"), ARRAYS["a/b"])
        assert reader.read("s").shape == () and float(reader.read("s")) == 2.5


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npz(tmp_path / "x.npz", ARRAYS.items())
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_npz(tmp_path / "y.npz", ARRAYS.items())
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    bomb = tmp_path / "was_here"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (bomb,)  # type: ignore[return-value]

    path = write_zip(tmp_path / "x.npz", [("params/w.npy", npy(np.array([Bomb()], dtype=object)))])
    with pytest.raises(ValueError, match=r"not a test file: the array 'params/w' is a pickle of Python objects"):
        open_npz(path)
    assert not bomb.exists()


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"none\.npz does not exist; it should be a test file\. Make it again\."
    ):
        open_npz(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="is not a test file: it is a folder"):
        open_npz(tmp_path)
    with pytest.raises(ValueError, match="The path of a test file is empty"):
        open_npz("")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it begins with b'version https"),
        (b"\x93NUMPY\x01\x00 one array alone", r"it begins with b'\\x93NUMPY"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=f"x.npz is not a test file: {problem}.*Make it again"):
        open_npz(tmp_path / "x.npz")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.npz", [("archive/data.pkl", b"torch")])
    with pytest.raises(ValueError, match=r"it holds 'archive/data\.pkl', which is no \.npy array"):
        open_npz(path)
    with pytest.raises(ValueError, match="it holds no array"):
        open_npz(write_zip(tmp_path / "empty.npz", []))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    write_npz(tmp_path / "whole.npz", ARRAYS.items())
    data = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match="it begins like one but is cut short or damaged"):
        open_npz(tmp_path / "x.npz")


def test_one_flipped_bit_is_noticed_when_the_array_is_read(tmp_path: Path) -> None:
    array = np.arange(10_000, dtype=np.float32)
    write_npz(tmp_path / "x.npz", [("a/b", array)])
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.index(array.tobytes()) + 20_000] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with open_npz(tmp_path / "x.npz") as reader, pytest.raises(ValueError, match=r"the array 'a/b' is damaged.*CRC"):
        reader.read("a/b")


@pytest.mark.parametrize("compress", [False, True])
def test_no_flipped_byte_gives_a_wrong_value(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "x.npz"
    write_npz(path, ARRAYS.items(), compress=compress)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:
            with open_npz(path) as reader:
                read = {name: reader.read(name) for name in reader.shapes}
        except ValueError as error:
            assert f"{path} is not a test file" in str(error)
            refused += 1
        else:
            # A flip in the zip's directory may hide an array; reading it by name is then an error.
            assert {array.tobytes() for array in read.values()} <= {array.tobytes() for array in ARRAYS.values()}
    assert refused > len(whole) / 3


def test_wrong_headers_are_refused(tmp_path: Path) -> None:
    good = npy(ARRAYS["a/b"])
    with pytest.raises(ValueError, match="the array 'w' should have 24 bytes and has 20"):
        open_npz(write_zip(tmp_path / "short.npz", [("w.npy", good[:-4])]))
    with pytest.raises(ValueError, match="the array 'w' should have 24 bytes and has 25"):
        open_npz(write_zip(tmp_path / "long.npz", [("w.npy", good + b"x")]))
    with pytest.raises(ValueError, match="the header of the array 'w' is damaged"):
        open_npz(write_zip(tmp_path / "header.npz", [("w.npy", b"\x93NUMPY\x01\x00\x10\x00{'shape': open()}")]))
    deep = b"\x93NUMPY\x02\x00" + (9001).to_bytes(4, "little") + b"-" * 9000 + b"1"
    with pytest.raises(ValueError, match=r"the header of the array 'w' is damaged \(\w"):  # Python gives no text
        open_npz(write_zip(tmp_path / "deep.npz", [("w.npy", deep)]))
    huge = good.replace(b"(2, 3)", b"(9**9,)")
    with pytest.raises(ValueError, match="the header of the array 'w' is damaged"):
        open_npz(write_zip(tmp_path / "huge.npz", [("w.npy", huge)]))


def deflated(path: Path, head: bytes, zeros: int) -> Path:
    """Writes an .npz with one array, whose bytes are a head and zeros that pack a thousandfold."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("w.npy", "w") as member:
        member.write(head)
        for _ in range(zeros >> 20):
            member.write(bytes(1 << 20))
    return path


def header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_a_small_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    """One header of 150 MB, and values of 150 MB, in files of 150 kB."""
    long = deflated(tmp_path / "long.npz", b"\x93NUMPY\x02\x00" + (150 << 20).to_bytes(4, "little"), 150 << 20)
    many = deflated(tmp_path / "many.npz", header((150 << 18,)), 150 << 20)
    assert max(path.stat().st_size for path in (long, many)) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="the header of the array 'w' is damaged"):
            open_npz(long)
        with pytest.raises(ValueError, match="its arrays have 157,286,400 bytes, more than 100 times"):
            NpzReader(many, kind="a test file", remedy="Make it again.", most_bytes=1 << 30)
        with pytest.raises(ValueError, match=r"its arrays have 157,286,400 bytes, more than 1,048,576"):
            NpzReader(many, kind="a test file", remedy="Make it again.", most_bytes=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    with open_npz(many) as reader:  # a checkpoint: compared with the shapes of the model before a value is read
        assert reader.shapes["w"].shape == (150 << 18,)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.npz", [("w.npy", npy(ARRAYS["a/b"]))] * 2)
    with pytest.raises(ValueError, match="it holds the array 'w' twice"):
        open_npz(path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", ARRAYS.items())
    before = (tmp_path / "x.npz").read_bytes()

    def arrays():
        yield "a", ARRAYS["c"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_npz(tmp_path / "x.npz", arrays())
    assert (tmp_path / "x.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32])
def test_nonfinite_values_are_counted_over_block_borders(dtype: np.dtype) -> None:
    array = np.zeros((3, (1 << 21) + 7), dtype)
    array[0, 0] = array[1, 5] = np.nan
    array[2, -1] = -np.inf
    assert count_nonfinite(array) == 3
    assert count_nonfinite(array[1, 6:]) == 0
