# Cells in PostgreSQL's binary formats; see _python_binary.py for what counts. Included by _cython.pyx.
#
# Room is made for the most that a piece can take, and what was used of it is handed over.

cdef extern from *:
    """
    #include <locale.h>
    #include <stdlib.h>
    #ifdef __APPLE__
    #include <xlocale.h>
    #endif
    """
    ctypedef void* locale_t
    int LC_ALL_MASK
    locale_t newlocale(int mask, const char* name, locale_t base) nogil
    double strtod_l(const char* text, char** end, locale_t locale) nogil
    float strtof_l(const char* text, char** end, locale_t locale) nogil

# What a number's text means must not depend on the locale of the process. NULL: there is none, and floats are refused.
cdef locale_t _c_locale = newlocale(LC_ALL_MASK, b"C", NULL)

cdef enum:
    _MOST_NUMERIC = 1000  # bytes of the text
    _MOST_FLOAT = 32
    _SINCE_2000_DAYS = 10957


cdef int64_t _since_2000_us = 946_684_800_000_000
cdef int64_t _exact_us = <int64_t>1 << 53  # up to there a double holds every whole number


cdef int _uuid_groups[5]
_uuid_groups[:] = [8, 4, 4, 4, 12]  # digits, with a dash between


cdef inline void put_u16(unsigned char* to, uint32_t value) noexcept nogil:
    to[0], to[1] = (value >> 8) & 0xff, value & 0xff


cdef Py_ssize_t most_of(char kind, Py_ssize_t size) noexcept nogil:
    """Bytes that a text of ``size`` bytes may become."""
    if kind == c't' or kind == c'j':
        return size + 1
    if kind == c'n':
        return size // 2 + 14
    if kind == c'y':
        return size // 2
    return 16


cdef Py_ssize_t a_uuid(octets at, Py_ssize_t size, unsigned char* to) noexcept nogil:
    cdef Py_ssize_t group, made = 0
    if size != 36:
        return -1
    for group in range(5):
        if group > 0:
            if at[0] != c'-':
                return -1
            at += 1
        if unhex(at, _uuid_groups[group] // 2, to + made) < 0:
            return -1
        at += _uuid_groups[group]
        made += _uuid_groups[group] // 2
    return made


cdef Py_ssize_t a_bytea(octets at, Py_ssize_t size, unsigned char* to) noexcept nogil:
    if size < 2 or size % 2 or at[0] != c'\\' or at[1] != c'x':
        return -1
    return -1 if unhex(at + 2, size // 2 - 1, to) < 0 else size // 2 - 1


cdef Py_ssize_t a_numeric(octets at, Py_ssize_t size, unsigned char* to) noexcept nogil:
    """Digits of base 10,000, those in front of the point first; no group of zeros at either end."""
    cdef bint negative = size > 0 and at[0] == c'-'
    cdef Py_ssize_t i, whole = 0, behind = 0, weight, left, count = 0, used = 0
    cdef unsigned int group = 0
    if size > _MOST_NUMERIC:
        return -1
    if negative:
        at += 1
        size -= 1
    while whole < size and at[whole] != c'.':
        whole += 1
    if whole < 1 or (at[0] == c'0' and whole > 1):
        return -1
    if whole < size:
        behind = size - whole - 1
        if behind < 1:
            return -1
    weight = (whole + 3) // 4 - 1
    left = (whole - 1) % 4 + 1  # digits that the group under way still takes
    for i in range(size):
        if i == whole:
            left = 4
            continue
        if at[i] < c'0' or at[i] > c'9':
            return -1
        group = group * 10 + (at[i] - c'0')
        left -= 1
        if left == 0 or i == size - 1:
            while left > 0:
                group *= 10
                left -= 1
            if count > 0 or group > 0:
                put_u16(to + 8 + 2 * count, group)
                count += 1
                if group > 0:
                    used = count
            else:
                weight -= 1
            group, left = 0, 4
    if used == 0:
        if negative:
            return -1
        weight = 0
    put_u16(to, <uint32_t>used)
    put_u16(to + 2, <uint32_t>weight)
    put_u16(to + 4, 0x4000 if negative else 0)
    put_u16(to + 6, <uint32_t>behind)
    return 8 + 2 * used


cdef bint is_float(octets at, Py_ssize_t size) noexcept nogil:
    """As a server writes one that is a number."""
    cdef Py_ssize_t i = 0, begin
    if size > 0 and at[0] == c'-':
        i = 1
    begin = i
    while i < size and c'0' <= at[i] <= c'9':
        i += 1
    if i == begin or (at[begin] == c'0' and i > begin + 1):
        return False
    if i < size and at[i] == c'.':
        begin = i = i + 1
        while i < size and c'0' <= at[i] <= c'9':
            i += 1
        if i == begin:
            return False
    if i < size and at[i] == c'e':
        if i + 2 > size or (at[i + 1] != c'+' and at[i + 1] != c'-'):
            return False
        begin = i = i + 2
        while i < size and c'0' <= at[i] <= c'9':
            i += 1
        if i - begin < 2 or i - begin > 3:
            return False
    return i == size


cdef bint is_zero(octets at, Py_ssize_t size) noexcept nogil:
    """Whether a number has no other figures."""
    cdef Py_ssize_t i = 0
    while i < size and at[i] != c'e':
        if c'1' <= at[i] <= c'9':
            return False
        i += 1
    return True


cdef Py_ssize_t a_float_field(octets at, Py_ssize_t size, bint double_precision, unsigned char* to) noexcept nogil:
    """What the input function makes of it: by strtod, or strtof."""
    cdef char text[_MOST_FLOAT + 1]
    cdef double value = 0
    cdef float narrow = 0
    cdef uint64_t wide_bits = 0
    cdef uint32_t bits = 0
    if size < 1 or size > _MOST_FLOAT or _c_locale == NULL:
        return -1
    if at[size - 1] == c'N' or at[size - 1] == c'y':
        if size == 3 and memcmp(at, b"NaN", 3) == 0:
            wide_bits, bits = 0x7ff8000000000000, 0x7fc00000
        elif size == 8 and memcmp(at, b"Infinity", 8) == 0:
            wide_bits, bits = 0x7ff0000000000000, 0x7f800000
        elif size == 9 and memcmp(at, b"-Infinity", 9) == 0:
            wide_bits, bits = 0xfff0000000000000, 0xff800000
        else:
            return -1
    else:
        if not is_float(at, size):
            return -1
        memcpy(text, at, <size_t>size)
        text[size] = 0
        if double_precision:
            value = strtod_l(text, NULL, _c_locale)
            memcpy(&wide_bits, &value, 8)
        else:
            narrow = strtof_l(text, NULL, _c_locale)
            memcpy(&bits, &narrow, 4)
            value = narrow
        if value - value != 0 or (value == 0 and not is_zero(at, size)):  # infinite; too small
            return -1
    if double_precision:
        put_u64(to, wide_bits)
        return 8
    put_u32(to, bits)
    return 4


cdef Py_ssize_t field_of(const cell_t* cell, char kind, unsigned char* to) noexcept nogil:
    """How many bytes were put; -1: the text isn't the very text of a value."""
    cdef int64_t value = 0
    cdef int32_t days = 0
    cdef octets at = cell.at
    cdef Py_ssize_t size = cell.size
    if kind == c't':
        memcpy(to, at, <size_t>size)
        return size
    if kind == c'8':
        if integer(cell, 64, &value) < 0:
            return -1
        put_u64(to, <uint64_t>value)
        return 8
    if kind == c'4':
        if integer(cell, 32, &value) < 0:
            return -1
        put_u32(to, <uint32_t>value)
        return 4
    if kind == c'2':
        if integer(cell, 16, &value) < 0:
            return -1
        put_u16(to, <uint32_t>value)
        return 2
    if kind == c'z' or kind == c's':
        if (a_timestamptz(at, size, &value) if kind == c'z' else a_timestamp(at, size, &value)) < 0:
            return -1
        put_u64(to, <uint64_t>(value - _since_2000_us))
        return 8
    if kind == c'n':
        return a_numeric(at, size, to)
    if kind == c'd':
        if a_date(at, size, &days) < 0:
            return -1
        put_u32(to, <uint32_t>(days - _SINCE_2000_DAYS))
        return 4
    if kind == c'm':
        if a_time(at, size, &value) < 0:
            return -1
        put_u64(to, <uint64_t>value)
        return 8
    if kind == c'b':
        if size != 1 or (at[0] != c't' and at[0] != c'f'):
            return -1
        to[0] = at[0] == c't'
        return 1
    if kind == c'f' or kind == c'g':
        return a_float_field(at, size, kind == c'g', to)
    if kind == c'u':
        return a_uuid(at, size, to)
    if kind == c'y':
        return a_bytea(at, size, to)
    if kind == c'j':
        to[0] = 1  # the version
        memcpy(to + 1, at, <size_t>size)
        return size + 1
    return -1


cdef bytes tuples_of(
    const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows, const Py_ssize_t* columns, Py_ssize_t count,
    const char* kinds,
):
    """``kinds`` is as long as ``columns``, and every letter of it is known."""
    cdef Py_ssize_t i, k, size, most = 0
    cdef const cell_t* cell
    cdef unsigned char* made
    cdef unsigned char* to
    cdef int status = 0
    if count > 0x7fff:
        raise ValueError("a tuple of more than 32,767 fields")
    with nogil:
        for i in range(rows):
            most += 2
            for k in range(count):
                cell = cells + i * stride + columns[k]
                if cell.size == UNCHANGED_CELL:
                    status = -1
                elif cell.size > 0x7ffffff0:
                    status = -2
                most += 4 + (most_of(kinds[k], cell.size) if cell.size >= 0 else 0)
            if status or most > MOST:
                break
    if status == -1:
        refuse_unchanged()
    if status == -2:
        raise ValueError("a text of more than 2 GB")
    made = <unsigned char*>malloc(<size_t>most + 1) if most <= MOST else NULL
    if made == NULL:
        raise MemoryError
    to = made
    try:
        with nogil:
            for i in range(rows):
                put_u16(to, <uint32_t>count)
                to += 2
                for k in range(count):
                    cell = cells + i * stride + columns[k]
                    if cell.size < 0:
                        put_u32(to, 0xffffffff)
                        to += 4
                        continue
                    size = field_of(cell, kinds[k], to + 4)
                    if size < 0:
                        status = -3
                        break
                    put_u32(to, <uint32_t>size)
                    to += 4 + size
                if status:
                    break
        if status:
            refuse_inexact()
        return PyBytes_FromStringAndSize(<const char*>made, to - made)
    finally:
        free(made)


cdef int digits_of(int64_t value, unsigned char* to) noexcept nogil:
    """Its decimal text, of at most 20 bytes; how many."""
    cdef unsigned char reversed[20]
    cdef int count = 0, size = 0
    cdef uint64_t rest = <uint64_t>value
    if value < 0:
        to[0] = c'-'
        size = 1
        rest = 0 - rest
    while count == 0 or rest > 0:
        reversed[count] = <unsigned char>(c'0' + rest % 10)
        rest //= 10
        count += 1
    while count > 0:
        count -= 1
        to[size] = reversed[count]
        size += 1
    return size


cdef bytes since_2000(const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows, bint zone):
    """text[] of microseconds since 2000."""
    cdef Py_ssize_t i
    cdef const cell_t* cell
    cdef unsigned char* made
    cdef unsigned char* to
    cdef int64_t value = 0
    cdef int has_null = 0, status = 0, size
    if rows > 0x7fffffff:
        raise ValueError("an array of more than 2³¹ elements")
    if rows == 0:
        return _empty_array
    made = <unsigned char*>malloc(_ARRAY_HEAD + 24 * <size_t>rows)
    if made == NULL:
        raise MemoryError
    try:
        with nogil:
            to = made + _ARRAY_HEAD
            for i in range(rows):
                if cells[i * stride].size == UNCHANGED_CELL:
                    status = -1
            for i in range(rows):
                cell = cells + i * stride
                if status:
                    break
                if cell.size == NULL_CELL:
                    has_null = 1
                    put_u32(to, 0xffffffff)
                    to += 4
                    continue
                if (a_timestamptz if zone else a_timestamp)(cell.at, cell.size, &value) < 0:
                    status = -2
                    break
                value -= _since_2000_us
                if value > _exact_us or value < -_exact_us:
                    status = -2
                    break
                size = digits_of(value, to + 4)
                put_u32(to, <uint32_t>size)
                to += 4 + size
            put_array_head(made, has_null, rows)
        if status == -1:
            refuse_unchanged()
        if status:
            refuse_inexact()
        return PyBytes_FromStringAndSize(<const char*>made, to - made)
    finally:
        free(made)
