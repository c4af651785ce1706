"""Checkpoint files: equal to torch.load, nothing executed, one error for whatever is wrong."""

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from arp_jax.interop.torch_archive import MAGIC_NUMBER, PROTOCOL_VERSION
from arp_jax.interop.torch_file import read_state, state_keys, write_state

STATE = {
    "head.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "head.bias": np.arange(3, dtype=np.float64),
    "count": np.array(7, np.int64),
    "placeholder": np.zeros((0,), np.float32),
}


def torch_module():
    return pytest.importorskip("torch", reason="torch writes the files of this test")


def assert_same(found: dict, expected: dict) -> None:
    """Same names, dtypes, shapes and bits."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert found[name].tobytes() == value.tobytes(), name


def as_numpy(tensor) -> np.ndarray:
    """A torch tensor as torch itself sees it."""
    torch = torch_module()
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def varied_tensors() -> dict:
    """Tensors of every dtype, strided, shared, empty, scalar, as parameters, of a subclass."""
    torch = torch_module()
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    kinds += (torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128)
    found = {str(kind): (torch.arange(6) % 5).to(kind).reshape(2, 3) for kind in kinds}
    found |= {
        "whole": base,
        "transposed": base.permute(2, 0, 1),
        "slice": base[1:, ::2, 1:4],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base[0].clone()),
        "buffer": torch.nn.Buffer(torch.ones(2)),
        "conjugate": torch.tensor([1 + 2j, 3 - 1j]).conj(),
        "negative": torch.tensor([1 + 2j]).conj().imag,
    }
    found["attribute"] = torch.ones(2)
    found["attribute"].note = "kept by a subclass-aware pickle"
    return found


@pytest.mark.parametrize("pickler", ["pickle", "dill"])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_equal_to_torch_load(tmp_path: Path, is_zip: bool, pickler: str, protocol: int) -> None:
    torch = torch_module()
    module = pytest.importorskip(pickler)
    omegaconf = pytest.importorskip("omegaconf")
    tensors = varied_tensors()
    linear = torch.nn.Linear(3, 2)
    schedule = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(linear.parameters(), 0.1), 3)
    content = {
        "cfg": omegaconf.OmegaConf.create({"task": {"name": "push"}, "sizes": [1, 2, "${seed}"]}),
        "state_dicts": {"model": tensors, "ema_model": linear.state_dict(), "optimizer": {}},
        "pickles": {"epoch": module.dumps(3), "when": np.float32(2)},
        "scheduler": schedule.state_dict(),
        "classes": {type(linear): torch.device("cpu"), "dtype": torch.float16, "set": {1, 2}},
    }
    if pickler == "dill":
        # By value, with code objects and dill's own helpers in the file.
        names = {"__name__": "__main__"}
        exec("class Local:\n    size = 3\ndef add(x):\n    return x + 1", names)
        content["by value"] = [names["add"], names["Local"], names["Local"](), lambda: 1]
    path = tmp_path / "epoch=0001.ckpt"
    torch.save(
        *(content, path, module, protocol),
        _use_new_zipfile_serialization=is_zip,
    )

    assert state_keys(path) == ["state_dicts.ema_model", "state_dicts.model"]
    loaded = torch.load(path, pickle_module=module, weights_only=False)["state_dicts"]["model"]
    found = read_state(path, "state_dicts.model")
    assert_same(found, {name: as_numpy(x) for name, x in loaded.items()})
    assert all(x.flags.c_contiguous and x.flags.writeable for x in found.values())
    average = {name: as_numpy(x) for name, x in linear.state_dict().items()}
    assert_same(read_state(path), average)


def test_dtypes_without_a_storage_class(tmp_path: Path) -> None:
    torch = torch_module()  # cannot read these in its legacy format itself
    values = torch.arange(8).reshape(2, 4).T
    names = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")
    tensors = {name: values.to(getattr(torch, name)) for name in names}
    torch.save(tensors, tmp_path / "x.pt")
    for name, found in read_state(tmp_path / "x.pt").items():
        assert found.dtype.name == name
        np.testing.assert_array_equal(found.astype(np.float32), values.numpy())


def test_numpy_arrays_inside_a_torch_file(tmp_path: Path) -> None:
    torch = torch_module()
    swapped = np.arange(3, dtype=">f4")
    state = {"array": np.asfortranarray(STATE["head.weight"]), "scalar": np.float32(1.5)}
    for protocol in (2, 4):
        torch.save(state | {"swapped": swapped}, tmp_path / "x.pt", pickle_protocol=protocol)
        found = read_state(tmp_path / "x.pt")
        assert_same(found, state | {"swapped": swapped.astype(np.float32)})


@pytest.mark.parametrize(
    ("wrap", "keys"),
    [
        (lambda s: s, [""]),
        (lambda s: {"step": 3, "model_state": s, "lr_sched_state": {"last": 1}}, ["model_state"]),
        (lambda s: {"state_dict": s, "optimizer_states": [{"state": {0: s}}]}, ["state_dict"]),
        (lambda s: {"model": s, "optimizer": {"state": s}}, ["model"]),
        (lambda s: {"weights": {"net": s}}, ["weights.net"]),
    ],
)
def test_the_state_dict_is_found(tmp_path: Path, wrap, keys: list[str]) -> None:
    torch = torch_module()
    state = {f"module.{name}": torch.from_numpy(x) for name, x in STATE.items()}
    torch.save(wrap(OrderedDict(state)), tmp_path / "x.pth")
    assert state_keys(tmp_path / "x.pth") == keys
    assert_same(read_state(tmp_path / "x.pth"), STATE)
    assert_same(read_state(tmp_path / "x.pth", keys[0]), STATE)


def test_a_wrong_or_absent_key_lists_the_possible_ones(tmp_path: Path) -> None:
    torch = torch_module()
    path, tensor = tmp_path / "x.pth", torch.ones(1)
    torch.save({"first": {"w": tensor}, "second": {"w": tensor}, "epoch": 1}, path)
    for key in ("third", None):
        with pytest.raises(ValueError, match=r"x\.pth: .*'first', 'second'"):
            read_state(path, key)
    torch.save({"epoch": 1}, path)
    with pytest.raises(ValueError, match="no state dict in it"):
        read_state(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"torch.nn.modules.linear.Linear.*state_dict\(\)"):
        read_state(path)
    torch.save({"w": tensor, "sparse": torch.eye(3).to_sparse()}, path)
    with pytest.raises(ValueError, match=r"sparse is made by torch\._utils\._rebuild_sparse"):
        read_state(path)


# -- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth", ".pt"])
def test_write_and_read(tmp_path: Path, suffix: str) -> None:
    state = dict(STATE)
    if suffix.startswith(".p"):
        torch_module()
    if suffix != ".npz":
        state["half"] = np.array([1, -2, 3], ml_dtypes.bfloat16)
    # Strided: formats keep values, not memory layouts.
    path = tmp_path / f"x{suffix}"
    write_state(path, state | {"head.weight": np.asfortranarray(state["head.weight"])})
    found = read_state(path)
    assert_same({name: found[name] for name in state}, state)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix.startswith(".p"):
        torch = torch_module()
        loaded = torch.load(path, weights_only=True)
        assert_same({k: as_numpy(v) for k, v in loaded.items()}, state)
    else:
        assert_same(
            dict(sorted(read_state(path, "head").items())),
            {"bias": state["head.bias"], "weight": state["head.weight"]},
        )


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.npz"
    write_state(path, STATE)
    with pytest.raises(ValueError, match=r"x\.npz: half is bfloat16.*safetensors"):
        write_state(path, {"half": np.ones(2, ml_dtypes.bfloat16)})
    assert sorted(read_state(path)) == sorted(STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
    with pytest.raises(ValueError, match=r"ends with one of \.npz"):
        write_state(tmp_path / "x.h5", STATE)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ValueError, match=r"x\.pth: .*\.safetensors.*torch-import"):
        write_state(tmp_path / "x.pth", STATE)


# -- files of strangers -------------------------------------------------------------------------


class Attack:
    """What a malicious file does: a command as soon as it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


class StateAttack:
    """The same through attributes of the object."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return eval, (f"open({str(self.flag)!r}, 'w')",), {"x": 1}, iter([1]), iter([("k", 2)])


def tensor_pickle(attack: object, shape: tuple = (2,), offset: int = 0) -> bytes:
    """{"w": tensor in storage "0" (two float32), "evil": attack}, as torch.save writes it."""

    def value(x: object) -> bytes:
        return pickle.dumps(x, 2)[2:-1]  # without protocol and end

    storage = b"(" + value("storage") + b"ctorch\nFloatStorage\n" + value("0") + value("cpu")
    storage += value(2) + b"tQ"
    place = value(offset) + value(shape) + value((1,) * len(shape))
    hooks = b"ccollections\nOrderedDict\n)R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + b"\x89" + hooks + b"tR"
    return b"\x80\x02}(" + value("w") + tensor + value("evil") + value(attack) + b"u."


def write_zip(path: Path, data: bytes, storage: bytes = struct.pack("<2f", 1, 2)) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("x/data.pkl", data)
        archive.writestr("x/data/0", storage)


def write_legacy(path: Path, data: bytes, storage: bytes = struct.pack("<q2f", 2, 1, 2)) -> None:
    head = [MAGIC_NUMBER, PROTOCOL_VERSION, {"little_endian": True}]
    framing = b"".join(pickle.dumps(x, 2) for x in head)
    path.write_bytes(framing + data + pickle.dumps(["0"], 2) + storage)


@pytest.mark.parametrize("attack", [Attack, StateAttack])
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_malicious_file_executes_nothing(tmp_path: Path, write, attack) -> None:
    flag, path = tmp_path / "executed", tmp_path / "x.pth"
    data = tensor_pickle(attack(flag))
    write(path, data)
    assert_same(read_state(path), {"w": np.array([1, 2], np.float32)})
    assert not flag.exists()
    # The very same attack works in Python's unpickler, so the test would notice an execution.
    pickle.loads(pickle.dumps(Attack(flag), 2))
    assert flag.exists()


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("shape", "offset"), [((3,), 0), ((2,), 1), ((2,), -1), ((-1,), 0), ((2**62, 2**62), 0)]
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path, write, shape, offset) -> None:
    write(tmp_path / "x.pth", tensor_pickle(None, shape, offset))
    with pytest.raises(ValueError, match=r"x\.pth: a tensor"):
        read_state(tmp_path / "x.pth")


def test_a_tensor_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    torch = torch_module()
    torch.save({"w": torch.ones(1).expand(2**40)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="repeats a storage"):
        read_state(tmp_path / "x.pth")


def test_nested_values_stay_harmless(tmp_path: Path) -> None:
    """Shared and deep nesting: nothing walks through it, also no error message."""
    grows, deep = b"]q\x01", b"N"
    for _ in range(100):  # 2^100 items when written out
        grows = grows + b"0](h\x01h\x01eq\x01"
    for _ in range(30_000):
        deep = deep + b"\x85"
    record = b"cos\nsystem\n"  # a call of a call of a call ...
    for _ in range(30_000):
        record = record + b")R"
    for value in (grows, deep, record):
        data = tensor_pickle(None)
        path = tmp_path / "x.pth"
        write_zip(path, data[:-2] + b"X\x01\x00\x00\x00v" + value + b"u.")
        assert_same(read_state(path), {"w": np.array([1, 2], np.float32)})
        write_zip(path, b"\x80\x02" + value + b".")
        with pytest.raises(ValueError, match="no state dict"):
            read_state(path)
        for wanted in (b"ctorch\nFloatStorage\n", b"X\x01\x00\x00\x000"):  # as class, as key
            assert wanted in data
            write_zip(path, data.replace(wanted, value, 1))
            with pytest.raises(ValueError, match="storage"):
                read_state(path)
        key_of_dict = b"\x80\x02}" + value + b"K\x01s."
        write_zip(path, key_of_dict)
        with pytest.raises(ValueError, match="no state dict"):
            read_state(path)


def damaged_files(folder: Path):
    """(name of the damage, path) of files that cannot be read."""
    torch = torch_module()
    content = {"state_dict": {"w": torch.arange(1000.0), "b": torch.ones(3)}}
    for name, is_zip in (("zip", True), ("legacy", False)):
        path = folder / f"{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
        whole = path.read_bytes()
        for size in (0, 1, 10, 300, len(whole) // 2, len(whole) - 100, len(whole) - 1):
            (folder / f"{name}_{size}.pth").write_bytes(whole[:size])
            yield folder / f"{name}_{size}.pth"
        middle = bytearray(whole)
        middle[len(whole) // 2] ^= 0xFF
        if is_zip:  # a legacy file has no checksum
            (folder / "flipped.pth").write_bytes(middle)
            yield folder / "flipped.pth"
    write_zip(folder / "short_storage.pth", tensor_pickle(None), b"123")
    yield folder / "short_storage.pth"
    write_legacy(folder / "other_count.pth", tensor_pickle(None), struct.pack("<q2f", -5, 1, 2))
    yield folder / "other_count.pth"
    for name, content in (
        ("text.pth", b"not a checkpoint at all\n" * 20),
        ("pickle.pth", pickle.dumps({"w": 1})),
        ("x.npz", b"PK broken"),
        ("x.safetensors", b"\xff" * 64),
        ("x.h5", b"anything"),
    ):
        (folder / name).write_bytes(content)
        yield folder / name
    yield folder / "absent.pth"
    yield folder


def test_every_damage_is_one_error_that_names_the_file(tmp_path: Path) -> None:
    count = 0
    for path in damaged_files(tmp_path):
        with pytest.raises(ValueError) as caught:
            read_state(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), message
        assert "\n" not in message, message
        count += 1
    assert count > 20


def test_random_damage_never_escapes_as_another_error(tmp_path: Path) -> None:
    """Flipped bytes in the pickle: a ValueError, or a file that still reads."""
    rng = np.random.default_rng(0)
    data = tensor_pickle({"a": [1, (2, "x")], "b": b"y"})
    path, refused, accepted = tmp_path / "x.pth", 0, 0
    for write in (write_zip, write_legacy):
        for _ in range(100):
            broken = bytearray(data)
            for position in rng.integers(0, len(data), rng.integers(1, 4)):
                broken[position] = rng.integers(0, 256)
            write(path, bytes(broken))
            try:
                read_state(path)
            except ValueError as caught:
                refused += str(caught).startswith(f"{path}: ")
                continue
            accepted += 1
    assert refused + accepted == 200
    assert 100 < refused < 200
