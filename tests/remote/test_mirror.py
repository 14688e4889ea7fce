"""Files and folders in an object store: whole or not there, whoever writes and whatever fails."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import numpy as np
import pytest
from object_server import Hold, end, start

from tokensieve.errors import TokensieveError
from tokensieve.places import place
from tokensieve.store.atomic import atomic_file, atomic_folder, link, read_json, remove, write_json, write_text
from tokensieve.store.manifest import adopt, ensure_manifest, open_manifest, record, write_manifest
from tokensieve.store.mirror import fetched, files_in, is_there, sync
from tokensieve.store.processes import beside
from tokensieve.store.shards import write_shard

PARTS = 24 * 2**20  # bytes that are put in several parts
WRITE = f"""
import sys
from tokensieve.places import place
from tokensieve.store.atomic import atomic_file
path, byte, times = place(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
for _ in range(times):
    with atomic_file(path) as partial:
        partial.write_bytes(byte * {PARTS})
"""
RECORD = """
import sys
from tokensieve.places import place
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import ensure_manifest, record
folder, name = place(sys.argv[1]), sys.argv[2]
ensure_manifest(folder, {})
for number in range(4):
    record(folder, {f"{name}-{number}": FileRecord(1, 1, "0" * 32)})
"""


def visible(use_scratch, url: str) -> list[str]:
    """Return what another machine sees of a folder."""
    use_scratch("another machine")
    folder = place(url)
    sync(folder)
    return [path.relative_to(folder).as_posix() for path in files_in(folder, "**/*")]


def shard(path: Path, first: int = 0):
    return write_shard(path, np.array([0, 2]), {"loss": np.array([first, 1], dtype=np.float32)})


def test_a_file_is_an_object_and_another_machine_reads_it(server, bucket, use_scratch):
    write_text(place(f"s3://{bucket}/runs/a/notes.txt"), "whole")
    assert server.read(f"{bucket}/runs/a/notes.txt") == b"whole"
    assert visible(use_scratch, f"s3://{bucket}/runs/a") == ["notes.txt"]
    assert place(f"s3://{bucket}/runs/a/notes.txt").read_text() == "whole"


def test_what_begins_with_a_dot_stays_on_this_machine(server, bucket):
    write_json(place(f"s3://{bucket}/a/.model.checkpoints/record.json"), {})
    assert server.names(bucket) == []


def test_a_small_file_is_one_request(server, bucket):
    before = len(server.requests)
    write_text(place(f"s3://{bucket}/a.txt"), "small")
    puts = [request for request in server.requests[before:] if request[0] in ("PUT", "POST")]
    assert puts == [("PUT", f"/{bucket}/a.txt")]


def test_an_exception_while_a_file_is_written_leaves_no_object(server, bucket):
    def write() -> None:
        with atomic_file(place(f"s3://{bucket}/a.txt")) as partial:
            partial.write_text("hal")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert server.names(bucket) == []


def test_a_store_that_fails_in_the_middle_of_an_upload_leaves_no_object(server, bucket):
    path = place(f"s3://{bucket}/a.bin")

    def write() -> None:
        with atomic_file(path) as partial:
            partial.write_bytes(b"x" * PARTS)

    refuse = "400 Bad Request"  # is not tried again
    with (
        server.failing(lambda method, path: refuse if "partNumber=2" in path else None),
        pytest.raises(TokensieveError, match=rf"object store fails.*\n  at: s3://{bucket}/a.bin"),
    ):
        write()
    assert server.names(bucket) == []
    assert not path.exists()
    write()
    assert server.read(f"{bucket}/a.bin") == b"x" * PARTS


def test_a_kill_in_the_middle_of_an_upload_leaves_no_object(server, bucket, tmp_path):
    hold = Hold("PUT", "partNumber=2")
    with server.failing(hold):
        process = start(server, tmp_path / "killed", "-c", WRITE, f"s3://{bucket}/a.bin", "x", "1")
        assert hold.reached.wait(60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hold.released.set()
    assert server.names(bucket) == []
    end(start(server, tmp_path / "killed", "-c", WRITE, f"s3://{bucket}/a.bin", "x", "1"))
    assert server.read(f"{bucket}/a.bin") == b"x" * PARTS


def test_of_two_writers_of_one_file_one_whole_file_is_left(server, bucket, tmp_path):
    url = f"s3://{bucket}/shard.arrow"
    end(*(start(server, tmp_path / byte, "-c", WRITE, url, byte, "2") for byte in "ab"))
    assert server.names(bucket) == ["shard.arrow"]
    found = server.read(f"{bucket}/shard.arrow")
    assert found in (b"a" * PARTS, b"b" * PARTS)


def test_a_folder_counts_when_all_of_it_is_there(server, bucket, use_scratch):
    folder = place(f"s3://{bucket}/run/cleaned")

    def write() -> None:
        with atomic_folder(folder) as partial:
            for name in ("a.txt", "inner/b.txt"):
                write_text(partial / name, name)
            write_manifest(partial, {})

    def fault(method: str, path: str) -> str | None:
        return "400 Bad Request" if method == "PUT" and path.endswith("manifest.json") else None

    with server.failing(fault), pytest.raises(TokensieveError, match="object store fails"):
        write()
    assert "run/cleaned/a.txt" in server.names(bucket)  # the manifest is the last to be put
    assert not folder.exists()
    assert visible(use_scratch, f"s3://{bucket}/run") == []
    assert visible(use_scratch, f"s3://{bucket}/run/cleaned") == []
    use_scratch("first")
    write()
    assert server.names(bucket) == ["run/cleaned/a.txt", "run/cleaned/inner/b.txt", "run/cleaned/manifest.json"]
    assert len(visible(use_scratch, f"s3://{bucket}/run/cleaned")) == 3


def test_a_new_folder_takes_the_place_of_the_old_one(server, bucket, use_scratch):
    for names in (["old.arrow", "both.txt"], ["new.txt", "both.txt"]):
        use_scratch(names[0])  # each writer on a machine of its own
        with atomic_folder(place(f"s3://{bucket}/scores")) as partial:
            for name in names:
                write_text(partial / name, names[0])
    assert server.contents(bucket, "scores/") == {"new.txt": b"new.txt", "both.txt": b"new.txt"}


def test_what_is_removed_is_gone_there_too(server, bucket):
    folder = place(f"s3://{bucket}/models/1")
    for name in ("a.txt", "inner/b.txt"):
        write_text(folder / name, "")
    remove(folder / "a.txt")
    assert server.names(bucket) == ["models/1/inner/b.txt"]
    remove(folder)
    assert server.names(bucket) == []
    assert not folder.exists()


def test_what_the_store_has_no_longer_is_gone_here_too(server, bucket):
    folder = place(f"s3://{bucket}/run")
    for name in ("arms/a/selection.json", "kept.json"):
        write_json(folder / name, {})
    server.files.delete_file(f"{bucket}/run/arms/a/selection.json")
    sync(folder)
    assert [path.name for path in folder.iterdir()] == ["kept.json"]


def test_what_another_machine_replaced_is_read_anew(server, bucket, use_scratch):
    url = f"s3://{bucket}/run/state.json"
    write_json(place(url), {"seconds": 1})
    use_scratch("another machine")
    write_json(place(url), {"seconds": 23})
    use_scratch("first")
    sync(place(url).parent)
    assert read_json(place(url)) == {"seconds": 23}


def test_shards_are_fetched_when_they_are_read_and_listed_once(server, bucket, use_scratch):
    folder = place(f"s3://{bucket}/statistics/1")
    files = {f"loss/shard-{number:05d}.arrow": shard(folder / f"loss/shard-{number:05d}.arrow") for number in range(5)}
    write_manifest(folder, files)
    use_scratch("another machine")
    folder, before = place(f"s3://{bucket}/statistics/1"), len(server.requests)
    sync(folder)
    manifest = open_manifest(folder)
    assert manifest.complete
    assert len(server.requests) - before <= 4  # the listing, and the manifest
    assert [path for path in folder.rglob("*") if path.suffix == ".arrow"] == []
    assert manifest.column("loss/shard-00003.arrow", "loss").tolist() == [0, 1]
    assert [path.name for path in folder.rglob("*.arrow")] == ["shard-00003.arrow"]
    fetched(folder)
    assert len(list(folder.rglob("*.arrow"))) == 5


def test_a_worker_that_listed_nothing_finds_manifest_and_shard(server, bucket, use_scratch):
    folder = place(f"s3://{bucket}/examples/1")
    write_manifest(folder, {"shard-00000.arrow": shard(folder / "shard-00000.arrow")})
    use_scratch("worker")
    folder = place(f"s3://{bucket}/examples/1")
    assert open_manifest(folder).column("shard-00000.arrow", "loss").tolist() == [0, 1]
    assert not is_there(folder / "absent.arrow")
    assert not fetched(folder / "absent.arrow").exists()


def test_a_worker_fetches_what_another_one_has_only_begun_to_fetch(server, bucket):
    for name in ("config.json", "model.safetensors"):
        server.put(f"{bucket}/model/{name}", b"{}")
    folder = place(f"s3://{bucket}/model")
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    assert sorted(path.name for path in fetched(folder).iterdir()) == ["config.json", "model.safetensors"]


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_refused(server, bucket):
    folder = place(f"s3://{bucket}/statistics/1")
    write_manifest(folder, {"a.arrow": shard(folder / "a.arrow")})
    good = (folder / "a.arrow").read_bytes()
    (folder / "a.arrow").write_bytes(bytes(len(good)))
    assert open_manifest(folder).column("a.arrow", "loss").tolist() == [0, 1]
    server.put(f"{bucket}/statistics/1/a.arrow", bytes(len(good)))
    (folder / "a.arrow").write_bytes(bytes(len(good)))
    with pytest.raises(TokensieveError, match=rf"checksum is wrong\n  at: s3://{bucket}/statistics/1/a.arrow"):
        open_manifest(folder).column("a.arrow", "loss")


def test_whole_shards_that_no_manifest_knows_are_taken_up_and_broken_ones_removed(server, bucket, use_scratch):
    folder = place(f"s3://{bucket}/statistics/1")
    ensure_manifest(folder, {})
    shard(folder / "loss/shard-00000.arrow")
    server.put(f"{bucket}/statistics/1/loss/shard-00001.arrow", b"of another program")
    use_scratch("another machine")
    folder = place(f"s3://{bucket}/statistics/1")
    sync(folder)
    adopt(folder, "shard-*.arrow")
    assert list(open_manifest(folder).files) == ["loss/shard-00000.arrow"]
    assert server.names(bucket, "statistics/1/loss") == ["statistics/1/loss/shard-00000.arrow"]


def test_a_store_that_fails_removes_no_shard(server, bucket, use_scratch):
    folder = place(f"s3://{bucket}/statistics/1")
    ensure_manifest(folder, {})
    shard(folder / "loss/shard-00000.arrow")
    use_scratch("another machine")
    folder = place(f"s3://{bucket}/statistics/1")
    sync(folder)

    def fault(method: str, path: str) -> str | None:
        return "400 Bad Request" if method == "GET" and path.endswith(".arrow") else None

    with server.failing(fault), pytest.raises(TokensieveError, match="the object store"):
        adopt(folder, "shard-*.arrow")
    assert server.names(bucket, "statistics/1/loss") == ["statistics/1/loss/shard-00000.arrow"]


def test_processes_that_record_at_the_same_time_lose_no_entry(server, bucket, tmp_path, use_scratch):
    url = f"s3://{bucket}/statistics/1"
    end(*(start(server, tmp_path / name, "-c", RECORD, url, name) for name in "abc"))
    use_scratch("reader")
    assert sorted(open_manifest(place(url)).files) == [f"{name}-{number}" for name in "abc" for number in range(4)]


def test_a_record_starts_from_what_the_store_has(server, bucket, use_scratch):
    url = f"s3://{bucket}/statistics/1"
    folder = place(url)
    ensure_manifest(folder, {})
    use_scratch("another machine")
    record(place(url), {"theirs.arrow": shard(place(url) / "theirs.arrow")})
    use_scratch("first")
    record(folder, {"ours.arrow": shard(folder / "ours.arrow")})
    assert sorted(open_manifest(folder).files) == ["ours.arrow", "theirs.arrow"]


def test_files_of_two_places_are_copied_not_linked(bucket, tmp_path):
    source = place(f"s3://{bucket}/store/model.txt")
    write_text(source, "weights")
    link(source, tmp_path / "model.txt")
    assert (tmp_path / "model.txt").stat().st_ino != source.stat().st_ino


def test_half_fetched_files_of_dead_processes_are_swept(server, bucket):
    folder = place(f"s3://{bucket}/run")
    server.put(f"{bucket}/run/a.json", b"{}")
    folder.mkdir(parents=True)
    host = re.sub(r"\.\d+\.[0-9a-f]{8}\.partial", "", beside(folder / "a.json").name)
    left = folder / f"{host}.999999999.00000000.partial"
    left.touch()
    sync(folder)
    assert [path.name for path in folder.iterdir()] == ["a.json"]


def test_a_bucket_that_is_not_there_is_one_error(server, bucket):
    for act in (sync, is_there, lambda path: write_text(path, "")):
        with pytest.raises(TokensieveError, match=r"no bucket 'nobody'\n  at: s3://nobody"):
            act(place("s3://nobody/run"))
