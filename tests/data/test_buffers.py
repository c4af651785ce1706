"""Memory is used again only when nobody can see it any more."""

import gc
import threading

import numpy as np

from arp_jax.data.buffers import KEPT, BufferPool

SHAPE = (4, 512, 1024)  # 2 MB


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_of_a_dead_array_serves_the_next():
    pool = BufferPool()
    array = pool.empty(SHAPE)
    first = address(array)
    assert first % 64 == 0
    assert array.flags.writeable
    del array
    assert address(pool.empty((8, 512, 512))) == first
    again = pool.empty((2, 512, 512), np.float32)  # as many bytes
    assert (again.dtype, address(again)) == (np.float32, first)


def test_any_view_keeps_it():
    pool = BufferPool()
    array = pool.empty(SHAPE)
    array[:] = 7
    view = array.reshape(-1)[5:][::2].view(np.int8)
    del array
    gc.collect()
    others = [pool.empty(SHAPE) for _ in range(3)]
    for other in others:
        other[:] = 1
    assert (view == 7).all()
    assert len({address(o) for o in others}) == 3


def test_jax_keeps_what_it_shares():
    import jax
    import jax.numpy as jnp

    pool = BufferPool()
    array = pool.empty(SHAPE)
    array[:] = 7
    on_device = jax.device_put(array)
    del array
    for _ in range(3):
        pool.empty(SHAPE)[:] = 1
    assert int(jnp.min(on_device)) == 7


def test_idle_memory_is_bounded_and_small_arrays_are_ordinary():
    pool = BufferPool()
    arrays = [pool.empty(SHAPE) for _ in range(6)]
    addresses = {address(array) for array in arrays}
    del arrays
    held = [pool.empty(SHAPE) for _ in range(KEPT)]
    assert {address(array) for array in held} <= addresses
    assert len(pool._idle) == 0
    assert pool.empty((3, 4), np.float32).base is None


def test_many_threads():
    pool = BufferPool()
    wrong = []

    def work(mark):
        for _ in range(50):
            array = pool.empty(SHAPE)
            array[:] = mark
            if not (array == mark).all():
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
