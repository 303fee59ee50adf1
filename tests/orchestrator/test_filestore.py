import copy
import errno
import hashlib
import json
import os
import pickle
import stat
import threading

import pytest

from orchestrator.disk import DirFiles
from orchestrator.errors import ExitCode, OrchestratorError, UsageError
from orchestrator.filestore import (
    FileExists,
    FileNotThere,
    FileStore,
    FileStoreError,
    UnsafePath,
    WriteResult,
)


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "outputs")


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- what a write tells -------------------------------------------------------------------------


def test_a_new_file_is_created_and_described_as_a_whole(store, tmp_path):
    result = store.safe_write("reports/summary.md", "Grüße")
    data = "Grüße".encode()
    assert result == {
        "path": tmp_path / "outputs" / "reports" / "summary.md",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "wrote": True,
        "reason": "created",
    }
    assert result["path"].is_absolute()
    assert result["path"].read_bytes() == data


def test_the_same_content_is_not_written_again(store):
    first = store.safe_write("a", "one")
    before = os.stat(first["path"])
    second = store.safe_write("a", b"one")
    assert (second["wrote"], second["reason"]) == (False, "nochange")
    assert os.stat(first["path"]).st_ino == before.st_ino
    assert second["sha256"] == first["sha256"]


def test_other_content_of_the_same_size_replaces_the_file(store):
    store.safe_write("a", "one")
    result = store.safe_write("a", "two")
    assert (result["wrote"], result["reason"]) == (True, "overwritten")
    assert store.read_text("a") == "two"


def test_append_describes_the_whole_file(store):
    assert store.safe_write("a", "one\n", mode="append")["reason"] == "created"
    result = store.safe_write("a", "two\n", mode="append")
    assert result["reason"] == "appended"
    assert result["size_bytes"] == 8
    assert result["sha256"] == hashlib.sha256(b"one\ntwo\n").hexdigest()
    assert store.safe_write("a", "", mode="append")["reason"] == "nochange"


def test_create_new_refuses_a_file_that_is_there_and_leaves_it(store):
    assert store.safe_write("a", "one", mode="create_new")["reason"] == "created"
    with pytest.raises(FileExistsError, match="EEXIST") as caught:
        store.safe_write("a", "one", mode="create_new")
    assert isinstance(caught.value, FileExists)
    assert isinstance(caught.value, OrchestratorError)
    assert caught.value.errno == errno.EEXIST
    assert 'mode="overwrite"' in caught.value.render()
    assert store.read_text("a") == "one"


def test_create_new_never_replaces_a_file_that_appears_while_it_writes(tmp_path):
    class Racing(DirFiles):
        def link_at(self, folder, old, new):
            (tmp_path / new).write_text("theirs")
            super().link_at(folder, old, new)

    store = FileStore(tmp_path, files=Racing())
    with pytest.raises(FileExistsError):
        store.safe_write("a", "ours", mode="create_new")
    assert everything_below(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "theirs"


def test_an_unknown_mode_is_refused(store):
    with pytest.raises(ValueError, match="overwrite, create_new, append"):
        store.safe_write("a", "x", mode="w")


def test_text_that_utf8_cannot_hold_is_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(UsageError, match="character 1"):
        store.safe_write("a", "x\ud800")
    with pytest.raises(TypeError, match="int"):
        store.safe_write("a", 1)
    assert everything_below(tmp_path) == []


def test_appends_of_many_threads_lose_nothing(tmp_path):
    def work(letter):
        store = FileStore(tmp_path)
        for _ in range(10):
            store.safe_write("log", letter * 10 + "\n", mode="append")

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == sorted(letter * 10 for letter in "abcd" for _ in range(10))


# --- the result as a value ----------------------------------------------------------------------


@pytest.mark.parametrize("use", [lambda r: max(*r), list, tuple, set, sorted, iter])
def test_a_result_is_not_iterated_by_any_means(store, use):
    result = store.safe_write("a", "x")
    with pytest.raises(TypeError, match="WriteResult"):
        use(result)


def test_unpacking_says_exactly_the_documented_text(store):
    with pytest.raises(TypeError) as caught:
        _path, _sha256, _size = store.safe_write("a", "x")
    assert str(caught.value) == "'WriteResult' object is not iterable"
    assert 'result["path"], result["sha256"], result["size_bytes"]' in caught.value.__notes__[0]


def test_a_result_is_a_dict_in_every_other_respect(store):
    result = store.safe_write("a", "x")
    plain = dict(result)
    assert type(plain) is dict
    assert isinstance(result, dict)
    assert plain == result == {**result} == result | {} == copy.deepcopy(result)
    assert list(result.keys()) == ["path", "sha256", "size_bytes", "wrote", "reason"]
    assert "sha256" in result
    assert result.get("nothing") is None
    assert len(result.items()) == len(result) == 5
    assert json.loads(json.dumps(result, default=str)) == json.loads(json.dumps(plain, default=str))
    assert pickle.loads(pickle.dumps(result)) == result
    assert type(copy.copy(result)) is WriteResult


# --- paths --------------------------------------------------------------------------------------

UNSAFE = [
    "",
    "/etc/passwd",
    "//x",
    "C:/x",
    "..",
    "../x",
    "../../x",
    "a/../../x",
    "a/..",
    ".",
    "./a",
    "a//b",
    "a/",
    "a\0b",
    "a\\b",
    "..\\x",
    "a\nb",
    "a\x1b[31m",
    "a\x7f",
    "a\x85b",
    "a\u2028b",
    "a\u202etxt.exe",
    "a\u2066b",
    "a\u200fb",
    "\udcff",
    "x" * 256,
    "ä" * 128,
    "a." + "/b",
    "a ",
    "a.",
    "...",
    "CON",
    "nul.txt",
    "aux /x",
    "com1.tar.gz",
    "LPT¹",
    ".orch-tmp-1",
    "/".join(["d"] * 65),
    "/".join(["x" * 200] * 30),
]


@pytest.mark.parametrize("path", UNSAFE)
@pytest.mark.parametrize("call", ["safe_write", "read_bytes", "exists"])
def test_an_unsafe_path_is_refused_by_every_call(tmp_path, path, call):
    store = FileStore(tmp_path / "outputs")
    arguments = (path, "x") if call == "safe_write" else (path,)
    with pytest.raises(UnsafePath) as caught:
        getattr(store, call)(*arguments)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.path == path
    assert caught.value.reason
    assert repr(path) in caught.value.message
    assert caught.value.message.isprintable()
    assert everything_below(tmp_path) == []


@pytest.mark.parametrize(
    "path", ["a", ".hidden", "a b/c d.txt", "日本.md", "x" * 255, "con-sole", "a..b", "a-\u200db"]
)
def test_a_plain_path_is_written(store, path):
    store.safe_write(path, "x")
    assert store.list_files() == [path]


def test_a_link_is_never_followed_nor_replaced(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    base = tmp_path / "outputs"
    base.mkdir()
    (base / "dir").symlink_to(outside)
    (base / "file").symlink_to(outside / "secret")
    (base / "dangling").symlink_to(outside / "new")
    for path in ("dir/secret", "dir/new", "file", "dangling"):
        for mode in ("overwrite", "create_new", "append"):
            with pytest.raises(UnsafePath, match="is a symlink"):
                store.safe_write(path, "x", mode=mode)
        with pytest.raises(UnsafePath, match="is a symlink"):
            store.read_bytes(path)
    assert everything_below(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert store.list_files() == []
    assert everything_below(base) == ["dangling", "dir", "file"]


def test_a_link_swapped_in_while_writing_does_not_lead_outside(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    base = tmp_path / "base"

    class Swapping(DirFiles):
        def open_at(self, folder, name, flags, mode=0o600):
            if flags & os.O_CREAT:
                os.rename(base / "dir", tmp_path / "moved")
                os.symlink(outside, base / "dir")
            return super().open_at(folder, name, flags, mode)

    FileStore(base, files=Swapping()).safe_write("dir/a", "x")
    assert everything_below(outside) == []
    assert everything_below(tmp_path / "moved") == ["a"]


def test_a_link_swapped_in_for_the_file_itself_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    base = tmp_path / "base"

    class Swapping(DirFiles):
        def rename_at(self, folder, old, new):
            os.symlink(outside, base / new)
            super().rename_at(folder, old, new)

    FileStore(base, files=Swapping()).safe_write("a", "ours")
    assert outside.read_text() == "theirs"
    assert not (base / "a").is_symlink()


def test_a_base_that_becomes_a_link_later_is_refused(tmp_path):
    store = FileStore(tmp_path / "base")
    store.safe_write("a", "x")
    (tmp_path / "base").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "base").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileStoreError):
        store.safe_write("b", "x")
    assert everything_below(tmp_path / "elsewhere") == []


def test_a_base_that_is_a_link_from_the_start_is_the_users_choice(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "base").symlink_to(tmp_path / "real")
    result = FileStore(tmp_path / "base").safe_write("a", "x")
    assert result["path"] == tmp_path / "base" / "a"
    assert (tmp_path / "real" / "a").read_text() == "x"


def test_special_files_are_refused_without_waiting_for_them(store, tmp_path):
    store.safe_write("dir/a", "x")
    os.mkfifo(tmp_path / "outputs" / "pipe")
    for call in (lambda: store.safe_write("pipe", "x"), lambda: store.read_bytes("pipe")):
        with pytest.raises(UnsafePath, match="special file"):
            call()
    with pytest.raises(FileStoreError, match="EISDIR"):
        store.safe_write("dir", "x")
    with pytest.raises(FileStoreError, match="ENOTDIR"):
        store.safe_write("dir/a/b", "x")


# --- modes, reading, listing --------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_and_folders_are_their_owners_alone(store, umask):
    old = os.umask(umask)
    try:
        path = store.safe_write("new/a", "x")["path"]
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_a_file_can_be_read_by_its_owner_whatever_the_umask(store):
    store.safe_write("a", "x")
    old = os.umask(0o777)
    try:
        path = store.safe_write("b", "x")["path"]
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_hard_link_to_the_old_file_keeps_the_old_content(store, tmp_path):
    path = store.safe_write("a", "old")["path"]
    os.link(path, tmp_path / "twin")
    store.safe_write("a", "new", mode="append")
    assert (tmp_path / "twin").read_text() == "old"


def test_what_is_not_there_is_said_so(store):
    with pytest.raises(FileNotFoundError, match=r"can't read .*outputs/a: ENOENT") as caught:
        store.read_bytes("a")
    assert isinstance(caught.value, FileNotThere)
    store.safe_write("dir/a", "x")
    found = {p: store.exists(p) for p in ("a", "dir", "dir/a", "dir/a/b", "dir/b")}
    assert found == {"a": False, "dir": False, "dir/a": True, "dir/a/b": False, "dir/b": False}


def test_listing_is_sorted_and_leaves_out_half_written_files(store, tmp_path):
    assert store.list_files() == []
    for path in ("b", "a/c", "a/b/d"):
        store.safe_write(path, path)
    (tmp_path / "outputs" / "a" / ".orch-tmp-1234").write_text("half")
    assert store.list_files() == ["a/b/d", "a/c", "b"]
    assert store.digest("b") == (hashlib.sha256(b"b").hexdigest(), 1)
    assert store.sweep() == 1
    assert store.sweep() == 0
    assert store.list_files() == ["a/b/d", "a/c", "b"]


# --- what the disk may do -----------------------------------------------------------------------


class Recorder(DirFiles):
    """Notes each call that matters for durability; fails the `fail_at`th with `error`."""

    def __init__(self, fail_at=None, error=errno.ENOSPC):
        self.calls = []
        self.fail_at = fail_at
        self.error = error

    def _note(self, *call):
        self.calls.append(call)
        if self.fail_at is not None and len(self.calls) == self.fail_at + 1:
            raise OSError(self.error, os.strerror(self.error))

    def open_at(self, folder, name, flags, mode=0o600):
        if flags & os.O_CREAT:
            self._note("create", name.startswith(".orch-tmp-"))
        return super().open_at(folder, name, flags, mode)

    def write(self, fd, data):
        self._note("write", bytes(data))
        return super().write(fd, data)

    def sync(self, fd):
        self._note("sync", "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        super().sync(fd)

    def sync_dir(self, path):
        self._note("sync", "folder")
        super().sync_dir(path)

    def mkdir_at(self, folder, name):
        self._note("mkdir", name)
        super().mkdir_at(folder, name)

    def rename_at(self, folder, old, new):
        self._note("rename", new)
        super().rename_at(folder, old, new)


def test_bytes_are_synced_before_the_name_and_the_name_before_the_return(tmp_path):
    files = Recorder()
    store = FileStore(tmp_path, files=files)
    store.safe_write("dir/a", b"xy")
    assert files.calls == [
        ("sync", "folder"),  # of the base's own name: who made it may have been killed
        ("mkdir", "dir"),
        ("sync", "folder"),
        ("create", True),
        ("write", b"xy"),
        ("sync", "file"),
        ("rename", "a"),
        ("sync", "folder"),
    ]


def test_a_file_found_unchanged_is_synced_too_for_its_writer_may_have_been_killed(tmp_path):
    FileStore(tmp_path).safe_write("dir/a", b"xy")
    files = Recorder()
    FileStore(tmp_path, files=files).safe_write("dir/a", b"xy")
    synced = [what for call, what in files.calls if call == "sync"]
    assert synced == ["folder", "folder", "file", "folder"]
    assert not [call for call in files.calls if call[0] in ("write", "rename")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_whatever_call_fails_the_old_file_stays_and_nothing_is_left_behind(tmp_path, number, mode):
    base = tmp_path / "base"
    FileStore(base).safe_write("dir/a", "old")
    probe = Recorder()
    FileStore(base, files=probe).safe_write("dir/a", "new 1", mode="overwrite")
    renamed_at = [call[0] for call in probe.calls].index("rename")
    for fail_at in range(len(probe.calls)):
        FileStore(base).safe_write("dir/a", "old")
        files = Recorder(fail_at, number)
        if probe.calls[fail_at][0] == "mkdir":
            continue
        if fail_at == 0 and number == errno.EACCES:
            continue  # the base's folder is somebody else's, who made the base as well
        with pytest.raises(FileStoreError) as caught:
            FileStore(base, files=files).safe_write("dir/a", "new 2", mode=mode)
        assert caught.value.errno == number
        assert str(base / "dir" / "a") in caught.value.message
        assert errno.errorcode[number] in caught.value.message
        assert everything_below(base) == ["dir", "dir/a"]
        if fail_at <= renamed_at:
            assert (base / "dir" / "a").read_text() == "old"


def test_short_writes_are_completed(tmp_path):
    class Short(DirFiles):
        def write(self, fd, data):
            return super().write(fd, data[:3])

    FileStore(tmp_path, files=Short()).safe_write("a", "0123456789")
    assert (tmp_path / "a").read_text() == "0123456789"


def test_a_copy_takes_any_size_and_refuses_a_source_that_changes(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 << 20))
    store = FileStore(tmp_path / "outputs")

    class Changing(DirFiles):
        def open_at(self, folder, name, flags, mode=0o600):
            if flags & os.O_CREAT:
                source.write_bytes(b"other")
            return super().open_at(folder, name, flags, mode)

    fd = os.open(source, os.O_RDONLY)
    try:
        assert store.safe_copy("big", fd)["reason"] == "created"
        assert store.read_bytes("big") == source.read_bytes()
        assert store.safe_copy("big", fd)["reason"] == "nochange"
        with pytest.raises(OrchestratorError, match="changed while it was read"):
            FileStore(tmp_path / "outputs", files=Changing()).safe_copy("torn", fd)
    finally:
        os.close(fd)
    assert store.list_files() == ["big"]
