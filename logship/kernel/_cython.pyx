# cython: language_level=3
"""The kernel in Cython: the same names and the same results as `logship.kernel._python`.

In and out: as there. Rows are tables of cells, and a cell is where its text stands in the bytes that it came
with, and how long it is: no text is copied before it leaves the process, and whatever holds a cell holds
those bytes, too (``sources``). Bytes objects never change and never move, so cells may be read without the
interpreter's lock; loops over many of them give it up.

What every function keeps to: a length that comes from outside is compared with what is left, never added to
an offset first; sizes that could pass the address space are checked before memory is asked for; a change is
taken in whole or not at all, since all that may fail comes before the first write.
"""

from array import array
import os
from time import sleep

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int32_t, int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, nanosleep, timespec

from google_crc32c import extend as _extend

from logship.kernel._python_binary import KINDS as _KINDS
from logship.kernel._python_coalesce import Net, Operation
from logship.kernel._python_drain import CopySource, Drained
from logship.kernel._python_plain import Encoded, Gathered, Plain, Transaction, cut
from logship.kernel.cell import UNCHANGED as _UNCHANGED

cdef extern from *:
    const char* LOGSHIP_SOURCES  # given to the compiler by setup.py

SOURCES = LOGSHIP_SOURCES.decode("ascii")

include "_cython_cells.pxi"
include "_cython_messages.pxi"
include "_cython_rows.pxi"
include "_cython_leaving.pxi"
include "_cython_typed.pxi"
include "_cython_binary.pxi"
include "_cython_shelf.pxi"
include "_cython_keys.pxi"
include "_cython_table.pxi"
include "_cython_coalesce.pxi"
include "_cython_drain.pxi"
include "_cython_plain.pxi"
