"""Reading RLDS datasets where only TensorFlow's file systems reach: gs://gresearch/robotics/...

In: the URL of a TFDS folder (TFRecord shards), e.g. gs://gresearch/robotics/bridge/0.1.0. Out: an
`RldsDataset` that yields the very episodes that `open_dataset` yields of a local copy: TensorFlow
fetches the bytes, this project's parser makes arrays of them. Needs the extra `tf`.

Pictures are decoded as everywhere in this project, not by TensorFlow, whose JPEG decoder (fast DCT)
differs by up to 17 grey levels: a policy sees the same pixels wherever its data lay. ArrayRecord
has no reader for remote files: copy such a folder to a disk first.
"""

from collections.abc import Iterator
from typing import Any

from arp_jax.data.rlds import RldsDataset, Shard, local_records, open_dataset
from arp_jax.data.tensorflow_files import import_tensorflow, remote_folder


def open_remote(path: str) -> RldsDataset:
    """Opens a TFDS folder on a file system of TensorFlow: gs://, what its plug-ins add, or a path.

    Args:
        path: the folder that holds features.json. `source.open_source` takes URLs too.

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: as `open_dataset`; the file system is unknown; or the shards are ArrayRecord
            files on a remote file system.
    """
    folder: Any = remote_folder(path)
    dataset = open_dataset(folder, tensorflow_records)
    for shards in dataset.shards.values():
        for shard in shards:
            if "://" in path and ".array_record" in shard.path.name:
                raise ValueError(
                    f"{path}: ArrayRecord shards cannot be read over the network; copy the folder "
                    "to a disk (e.g. gcloud storage cp -r) and open the copy"
                )
    return dataset


def tensorflow_records(shard: Shard, begin: int, end: int) -> Iterator[bytes]:
    """The records [begin, end) of a shard, read by TensorFlow; checksums are verified.

    Raises:
        ValueError: a record is damaged or the file cannot be read.
    """
    if ".array_record" in shard.path.name:  # open_remote has checked that it is local
        yield from local_records(shard, begin, end)
        return
    tensorflow = import_tensorflow()
    records = tensorflow.data.TFRecordDataset(str(shard.path)).skip(begin).take(end - begin)
    index = begin
    try:
        for record in records.as_numpy_iterator():
            yield record
            index += 1
    except tensorflow.errors.OpError as error:
        reason = str(error.message).splitlines()[0]
        raise ValueError(f"record {index}: {reason}") from error
