# Plain transactions, many at once. Included by _cython.pyx.

cdef enum:
    _RECORD_HEADER = 48  # of a journal's segment
    _ENTRY = 12  # of its index
    _BEGIN_SIZE = 21
    _COMMIT_SIZE = 26


cdef const char* _RECORD_MAGIC = b"\xa7LSR"


cdef struct plain_t:
    uint32_t xid
    uint64_t commit_lsn
    uint64_t end_lsn
    int64_t time_us


cdef inline uint64_t get_u64(octets at) noexcept nogil:
    return (<uint64_t>get_u32(at) << 32) | get_u32(at + 4)


cdef inline void put_u64(unsigned char* to, uint64_t value) noexcept nogil:
    put_u32(to, <uint32_t>(value >> 32))
    put_u32(to + 4, <uint32_t>value)


cdef Py_ssize_t plain_end(octets run, Py_ssize_t offset, Py_ssize_t end, plain_t* found) noexcept nogil:
    """Where the plain transaction ends that begins at ``offset``; -1: there is none."""
    cdef Py_ssize_t following = message_end(run, end, offset)
    cdef octets at = run + offset + 4
    cdef unsigned char tag
    if following - offset - 4 != _BEGIN_SIZE or at[0] != c'B':
        return -1
    found.commit_lsn, found.time_us, found.xid = get_u64(at + 1), <int64_t>get_u64(at + 9), get_u32(at + 17)
    while following < end:
        offset = following
        following = message_end(run, end, offset)
        if following <= offset + 4:
            return -1
        at = run + offset + 4
        tag = at[0]
        if tag == c'C':
            if following - offset - 4 != _COMMIT_SIZE or at[1] != 0 or get_u64(at + 2) != found.commit_lsn:
                return -1
            found.end_lsn = get_u64(at + 10)
            if <int64_t>get_u64(at + 18) != found.time_us or found.end_lsn <= found.commit_lsn:
                return -1
            return following
        if tag != c'O' and ((tag != c'I' and tag != c'U' and tag != c'D') or following - offset < 9):
            return -1
    return -1


cdef Py_ssize_t survey_plain(
    octets run, Py_ssize_t end, plain_t* last, uint64_t* first, Py_ssize_t* padding
) noexcept nogil:
    """How many transactions the stretch has; -1: it isn't one. ``padding``: zeros that its records end in, in all."""
    cdef Py_ssize_t offset = 0, count = 0, start
    cdef uint64_t reached = 0
    padding[0] = 0
    while offset < end:
        start = offset
        offset = plain_end(run, offset, end, last)
        if offset < 0 or last.commit_lsn < reached:
            return -1
        padding[0] += (start - offset) & 7
        if count == 0:
            first[0] = last.commit_lsn
        reached = last.end_lsn
        count += 1
    return count if count else -1


def plain(bytes run not None):
    """What the stretch says of itself; None when ``run`` isn't one."""
    cdef plain_t last
    cdef uint64_t first = 0
    cdef Py_ssize_t count, padding
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(run)
    with nogil:
        count = survey_plain(at, end, &last, &first, &padding)
    if count < 0:
        return None
    return Plain(count, first, last.xid, last.commit_lsn, last.end_lsn, last.time_us)


def plain_at(bytes run not None, Py_ssize_t offset, Py_ssize_t end, uint64_t after, Py_ssize_t most):
    """What the stretch says of itself that stands from ``offset`` on, and where it ends: before ``end``, before the
    first transaction that isn't plain, comes to more than ``most`` bytes, or was committed before ``after`` or before
    the end of the one before it. None: that is the first."""
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    cdef plain_t one, last
    cdef uint64_t first = 0
    cdef Py_ssize_t count = 0, following
    if not 0 <= offset <= end <= PyBytes_GET_SIZE(run):
        raise ValueError(f"bytes {offset} to {end} are outside of the run")
    memset(&last, 0, sizeof(plain_t))
    with nogil:
        while offset < end:
            following = plain_end(at, offset, offset + most if most < end - offset else end, &one)
            if following < 0 or one.commit_lsn < after:
                break
            if count == 0:
                first = one.commit_lsn
            last = one
            after, offset, count = one.end_lsn, following, count + 1
    if count == 0:
        return None
    return Plain(count, first, last.xid, last.commit_lsn, last.end_lsn, last.time_us), offset


def commit_times(bytes run not None, int64_t moment_us):
    """Ends and commit times, ascending by the end, the last among them: where transactions follow one another that were
    committed within ``moment_us`` of the first of them, of the last of them. `ValueError`: ``run`` is no stretch."""
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(run), offset = 0, padding
    cdef plain_t one
    cdef uint64_t first = 0
    cdef int64_t since_us = 0
    cdef uint64_t apart
    cdef list times = []
    if survey_plain(at, end, &one, &first, &padding) < 0:
        raise ValueError("no stretch of plain transactions")
    while offset < end:
        offset = plain_end(at, offset, end, &one)
        apart = <uint64_t>one.time_us - <uint64_t>since_us
        if one.time_us < since_us:
            apart = <uint64_t>since_us - <uint64_t>one.time_us
        if times and moment_us >= 0 and apart <= <uint64_t>moment_us:
            times[len(times) - 1] = (one.end_lsn, one.time_us)
            continue
        since_us = one.time_us
        times.append((one.end_lsn, one.time_us))
    return times


def changing(bytes run not None, left_out):
    """How many transactions of a stretch change a row of a relation that isn't left out."""
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(run), offset = 0, count = 0, padding
    cdef plain_t last
    cdef uint64_t first = 0
    cdef bint nothing_left_out = not left_out, changes = False
    if survey_plain(at, end, &last, &first, &padding) < 0:
        raise ValueError("no stretch of plain transactions")
    while offset < end:
        if at[offset + 4] == c'C':
            count += changes
            changes = False
        elif not changes and at[offset + 4] != c'B' and at[offset + 4] != c'O':
            changes = nothing_left_out or get_u32(at + offset + 5) not in left_out
        offset += 4 + <Py_ssize_t>get_u32(at + offset)
    return count


cdef Py_ssize_t plain_record_end(octets data, Py_ssize_t at, Py_ssize_t end, uint32_t salt, plain_t* found) noexcept nogil:
    """Where the record at ``at`` ends, zeros included; -1: it isn't a whole one of a plain transaction. The checksum
    isn't looked at."""
    cdef octets head = data + at
    cdef uint32_t length
    cdef Py_ssize_t body = at + _RECORD_HEADER
    if at < 0 or end - at < _RECORD_HEADER or memcmp(head, _RECORD_MAGIC, 4) != 0:
        return -1
    length = get_u32(head + 8)
    if head[12] != 1 or head[13] != 3 or head[14] != ((salt >> 8) & 0xff) or head[15] != (salt & 0xff):
        return -1
    if (<uint64_t>length + 7) // 8 * 8 > <uint64_t>(end - body):
        return -1
    if plain_end(data, body, body + length, found) != body + <Py_ssize_t>length:
        return -1
    if get_u32(head + 16) != found.xid or get_u64(head + 24) != found.commit_lsn:
        return -1
    if get_u64(head + 32) != found.end_lsn or <int64_t>get_u64(head + 40) != found.time_us:
        return -1
    return body + (<Py_ssize_t>length + 7) // 8 * 8


def gather(bytes data not None, Py_ssize_t at, uint32_t salt, Py_ssize_t max_bytes):
    """The stretch whose records stand from ``at`` on, up to the first record that is cut short, not good, not
    of a plain transaction, or behind ``max_bytes`` of runs; None: that is the first."""
    cdef octets bytes_of = <octets>PyBytes_AS_STRING(data)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data), start = at, last_at = 0, following, size = 0, count = 0, length
    cdef plain_t one, last
    cdef uint64_t first = 0
    cdef bytes run
    cdef unsigned char* to
    memset(&last, 0, sizeof(plain_t))
    while size < max_bytes:
        following = plain_record_end(bytes_of, at, end, salt, &one)
        if following < 0 or (count and one.commit_lsn < last.end_lsn):
            break
        checked = PyBytes_FromStringAndSize(<const char*>bytes_of + at + 8, following - at - 8)
        if <uint32_t>_extend(salt, checked) != get_u32(bytes_of + at + 4):
            break
        if count == 0:
            first = one.commit_lsn
        size += get_u32(bytes_of + at + 8)
        count += 1
        last = one
        last_at, at = at, following
    if count == 0:
        return None
    run = PyBytes_FromStringAndSize(NULL, size)
    to = <unsigned char*>PyBytes_AS_STRING(run)
    while start < at:
        length = get_u32(bytes_of + start + 8)
        memcpy(to, bytes_of + start + _RECORD_HEADER, <size_t>length)
        to += length
        start += _RECORD_HEADER + (length + 7) // 8 * 8
    told = Plain(count, first, last.xid, last.commit_lsn, last.end_lsn, last.time_us)
    return Gathered(run, told, last_at, at, <Py_ssize_t>get_u32(bytes_of + last_at + 20) << 3)


cdef void note_relations(octets run, Py_ssize_t offset, Py_ssize_t end, uint32_t* seen, set relations):
    """``seen`` are 256 places, each with the oid that was noted there last."""
    cdef uint32_t oid, place
    while offset < end:
        if run[offset + 4] != c'B' and run[offset + 4] != c'C' and run[offset + 4] != c'O':
            oid = get_u32(run + offset + 5)
            place = (oid * <uint32_t>2654435761) >> 24
            if seen[place] != oid or oid == 0:
                seen[place] = oid
                relations.add(oid)
        offset += 4 + <Py_ssize_t>get_u32(run + offset)


cdef void put_record_head(unsigned char* to, Py_ssize_t length, uint32_t salt, uint32_t synced, const plain_t* one) noexcept nogil:
    """All of it but the checksum."""
    memcpy(to, _RECORD_MAGIC, 4)
    put_u32(to + 8, <uint32_t>length)
    to[12], to[13] = 1, 3
    to[14], to[15] = (salt >> 8) & 0xff, salt & 0xff
    put_u32(to + 16, one.xid)
    put_u32(to + 20, synced)
    put_u64(to + 24, one.commit_lsn)
    put_u64(to + 32, one.end_lsn)
    put_u64(to + 40, <uint64_t>one.time_us)


def encode_plain(bytes run not None, uint32_t salt, uint64_t synced):
    """Each transaction of a stretch as a record of a segment; `ValueError` when ``run`` isn't one."""
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(run), offset = 0, following, size, padded, count, padding
    cdef plain_t one
    cdef uint64_t first = 0
    cdef int64_t first_us = 0, latest_us = 0
    cdef uint32_t seen[256]
    cdef set relations = set()
    cdef bytes data, entries
    cdef unsigned char* to
    cdef unsigned char* entry
    count = survey_plain(at, end, &one, &first, &padding)
    if count < 0:
        raise ValueError("no stretch of plain transactions")
    if end > MOST - count * (_RECORD_HEADER + 8):
        raise MemoryError
    memset(seen, 0, sizeof(seen))
    entries = PyBytes_FromStringAndSize(NULL, count * _ENTRY)
    entry = <unsigned char*>PyBytes_AS_STRING(entries)
    data = PyBytes_FromStringAndSize(NULL, end + padding + count * _RECORD_HEADER)
    to = <unsigned char*>PyBytes_AS_STRING(data)
    while offset < end:
        following = plain_end(at, offset, end, &one)
        size = following - offset
        padded = (size + 7) // 8 * 8
        put_record_head(to, size, salt, <uint32_t>(synced >> 3), &one)
        memcpy(to + _RECORD_HEADER, at + offset, <size_t>size)
        memset(to + _RECORD_HEADER + size, 0, <size_t>(padded - size))
        checked = PyBytes_FromStringAndSize(<const char*>to + 8, _RECORD_HEADER - 8 + padded)
        put_u32(to + 4, <uint32_t>_extend(salt, checked))
        put_u32(entry, one.xid)
        put_u64(entry + 4, one.end_lsn)
        note_relations(at, offset, following, seen, relations)
        if one.time_us > latest_us:
            if first_us == 0:
                first_us = one.time_us
            latest_us = one.time_us
        to += _RECORD_HEADER + padded
        entry += _ENTRY
        offset = following
    return Encoded(data, entries, relations, first_us, latest_us)
