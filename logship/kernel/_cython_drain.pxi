# What comes on a connection in COPY BOTH, read and gathered as a run. Included by _cython.pyx.

ctypedef int (*get_copy_data_t)(void* connection, char** data, int asynchronous) noexcept nogil
ctypedef void (*freemem_t)(void* data) noexcept nogil
ctypedef int (*consume_t)(void* connection) noexcept nogil

cdef enum:
    _HEADER = 25  # bytes of XLogData before its payload
    _NAP_NS = 200_000  # between two looks at the socket while more is to gather
    _LONGEST_NAP_NS = 1_000_000  # a socket holds what a walsender sends in about that
    _FEW = 8192  # bytes at a look: the next may come later


# Bytes that grow at their end.
cdef struct pile_t:
    unsigned char* at
    Py_ssize_t used
    Py_ssize_t room


cdef int pile_room(pile_t* pile, Py_ssize_t more) noexcept nogil:
    cdef Py_ssize_t room
    cdef void* grown
    if more <= pile.room - pile.used:
        return 0
    if more > MOST - pile.used:
        return -1
    room = pile.used + more
    if room < 2 * pile.room:
        room = 2 * pile.room
    if room < 4096:
        room = 4096
    grown = realloc(pile.at, <size_t>room)
    if grown == NULL:
        return -1
    pile.at, pile.room = <unsigned char*>grown, room
    return 0


cdef int pile_add(pile_t* pile, const void* data, Py_ssize_t size) noexcept nogil:
    if pile_room(pile, size) < 0:
        return -1
    if size > 0:
        memcpy(pile.at + pile.used, data, <size_t>size)
    pile.used += size
    return 0


cdef struct drain_t:
    pile_t run
    pile_t marks  # int64_t each
    pile_t keepalives  # of each two int64_t: the offset in the run, its size
    pile_t kept  # the keepalives' bytes, one behind the other
    pile_t odd
    unsigned char header[_HEADER]
    bint has_header
    Py_ssize_t size
    bint ended
    bint failed  # there was no memory
    bint broken  # the socket can't be read any more


# Functions of the library that made the connection.
cdef struct libpq_t:
    get_copy_data_t get
    freemem_t give_back
    consume_t consume


cdef pile_t _nothing
memset(&_nothing, 0, sizeof(pile_t))


cdef void drain_empty(drain_t* drain) noexcept nogil:
    """Of all but what stops it."""
    free(drain.run.at)
    free(drain.marks.at)
    free(drain.keepalives.at)
    free(drain.kept.at)
    drain.run = drain.marks = drain.keepalives = drain.kept = _nothing
    drain.has_header = False
    drain.size = 0


cdef int take_copy_data(drain_t* drain, octets data, Py_ssize_t size) noexcept nogil:
    """One CopyData message; -1: there is no memory."""
    cdef int64_t two[2]
    cdef Py_ssize_t payload
    cdef octets message = data + _HEADER
    drain.size += size
    if data[0] == c'w' and size >= _HEADER:
        payload = size - _HEADER
        if payload == 0 or not (
            message[0] == c'I' or message[0] == c'U' or message[0] == c'D' or message[0] == c'T' or message[0] == c'O'
        ):
            two[0] = drain.run.used
            if pile_add(&drain.marks, two, sizeof(int64_t)) < 0:
                return -1
        if pile_room(&drain.run, 4 + payload) < 0:
            return -1
        put_u32(drain.run.at + drain.run.used, <uint32_t>payload)
        drain.run.used += 4
        pile_add(&drain.run, message, payload)
        memcpy(drain.header, data, _HEADER)
        drain.has_header = True
        return 0
    if data[0] == c'k':
        two[0], two[1] = drain.run.used, size
        drain.has_header = False
        if pile_add(&drain.keepalives, two, 2 * sizeof(int64_t)) < 0:
            return -1
        return pile_add(&drain.kept, data, size)
    return pile_add(&drain.odd, data, size)


cdef Py_ssize_t take_all(
    drain_t* drain, void* connection, get_copy_data_t get, freemem_t give_back, Py_ssize_t most
) noexcept nogil:
    cdef Py_ssize_t size = 0
    cdef char* data
    cdef int length, status
    while size < most and not (drain.ended or drain.failed or drain.odd.used):
        data = NULL
        length = get(connection, &data, 1)
        if length <= 0:
            drain.ended = length < 0
            break
        size += length
        status = take_copy_data(drain, <octets>data, length)
        give_back(data)
        if status < 0:
            drain.failed = True
    return size


cdef int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef Py_ssize_t read_all(
    drain_t* drain, void* connection, const libpq_t* libpq, Py_ssize_t most, Py_ssize_t enough, int64_t gather_ns
) noexcept nogil:
    cdef Py_ssize_t size = take_all(drain, connection, libpq.get, libpq.give_back, most), taken
    cdef int64_t end_ns = clock_ns() + gather_ns, nap_ns = _NAP_NS
    cdef Py_ssize_t looked = 0
    cdef timespec nap
    while size < most and not (drain.ended or drain.failed or drain.odd.used):
        if libpq.consume(connection) == 0:
            drain.broken = True
            break
        taken = take_all(drain, connection, libpq.get, libpq.give_back, most - size)
        size += taken
        if taken > 0:
            continue
        if size == 0 or size >= enough or clock_ns() >= end_ns:
            break
        nap_ns = min(2 * nap_ns, <int64_t>_LONGEST_NAP_NS) if size - looked < _FEW else _NAP_NS
        looked = size
        nap.tv_sec, nap.tv_nsec = 0, nap_ns
        nanosleep(&nap, NULL)
    return size


cdef class Drain:
    """Call `read` when the socket may have something, and `take` for what has gathered.

    ``libpq`` are the addresses of PQgetCopyData, PQfreemem and PQconsumeInput in the same library that made
    ``pgconn``: with them an implementation may read without the interpreter. None: through ``pgconn``.
    """

    cdef drain_t drain
    cdef object pgconn
    cdef libpq_t libpq
    cdef bint entered

    def __cinit__(self, pgconn, libpq=None):
        memset(&self.drain, 0, sizeof(drain_t))
        self.pgconn = pgconn
        memset(&self.libpq, 0, sizeof(libpq_t))
        self.entered = False
        if libpq is not None:
            get, give_back, consume = libpq
            self.libpq.get = <get_copy_data_t><uintptr_t>get
            self.libpq.give_back = <freemem_t><uintptr_t>give_back
            self.libpq.consume = <consume_t><uintptr_t>consume

    def __dealloc__(self):
        drain_empty(&self.drain)
        free(self.drain.odd.at)

    @property
    def ended(self):
        """The server ended the copy, or the link broke: libpq's results say why."""
        return bool(self.drain.ended)

    @property
    def odd(self):
        """CopyData that is neither XLogData nor a keepalive, or is cut short: nothing is taken behind it."""
        return PyBytes_FromStringAndSize(<const char*>self.drain.odd.at, self.drain.odd.used)

    def read(self, Py_ssize_t max_bytes, Py_ssize_t enough_bytes=0, double gather_s=0):
        """Take messages and read the socket in turn, until it holds no more or their sizes come to ``max_bytes``;
        nothing is waited for. But where some have come, and less than ``enough_bytes``, it goes on for ``gather_s``
        to look for more now and then. Returns the sizes' sum. What libpq raises comes through; what was gathered
        before it stays."""
        cdef Py_ssize_t size
        cdef int64_t gather_ns = <int64_t>(gather_s * 1e9)
        cdef void* connection = NULL
        if self.entered:
            raise RuntimeError("two threads read one connection")
        if self.libpq.get != NULL and self.libpq.give_back != NULL and self.libpq.consume != NULL:
            address = self.pgconn.pgconn_ptr
            connection = NULL if address is None else <void*><uintptr_t>address
        if connection == NULL:
            return self.through_python(max_bytes, enough_bytes, gather_ns)
        self.entered = True
        with nogil:
            size = read_all(&self.drain, connection, &self.libpq, max_bytes, enough_bytes, gather_ns)
        self.entered = False
        if self.drain.failed:
            raise MemoryError
        if self.drain.broken:
            self.drain.broken = False
            self.pgconn.consume_input()  # which says why
        return size

    cdef Py_ssize_t through_python(self, Py_ssize_t most, Py_ssize_t enough, int64_t gather_ns) except -1:
        cdef int64_t end_ns = clock_ns() + gather_ns
        cdef Py_ssize_t size = self.taken_by_python(most), taken
        while size < most and not (self.drain.ended or self.drain.odd.used):
            self.pgconn.consume_input()
            taken = self.taken_by_python(most - size)
            size += taken
            if taken > 0:
                continue
            if size == 0 or size >= enough or clock_ns() >= end_ns:
                break
            sleep(_NAP_NS / 1e9)
        return size

    cdef Py_ssize_t taken_by_python(self, Py_ssize_t most) except -1:
        cdef Py_ssize_t size = 0, length
        cdef bytes data
        get = self.pgconn.get_copy_data
        while size < most and not (self.drain.ended or self.drain.odd.used):
            length, taken = get(1)
            if length <= 0:
                self.drain.ended = length < 0
                break
            data = bytes(taken)
            size += length
            if take_copy_data(&self.drain, <octets>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) < 0:
                raise MemoryError
        return size

    def take(self):
        """All that was gathered since the last call."""
        cdef Py_ssize_t i, at = 0
        cdef const int64_t* marks = <const int64_t*>self.drain.marks.at
        cdef const int64_t* alive = <const int64_t*>self.drain.keepalives.at
        if self.entered:
            raise RuntimeError("two threads read one connection")
        keepalives = []
        for i in range(self.drain.keepalives.used // 16):
            kept = PyBytes_FromStringAndSize(<const char*>self.drain.kept.at + at, <Py_ssize_t>alive[2 * i + 1])
            keepalives.append((alive[2 * i], kept))
            at += <Py_ssize_t>alive[2 * i + 1]
        drained = Drained(
            PyBytes_FromStringAndSize(<const char*>self.drain.run.at, self.drain.run.used),
            [marks[i] for i in range(self.drain.marks.used // 8)],
            keepalives,
            PyBytes_FromStringAndSize(<const char*>self.drain.header, _HEADER if self.drain.has_header else 0),
            self.drain.size,
        )
        drain_empty(&self.drain)
        return drained
