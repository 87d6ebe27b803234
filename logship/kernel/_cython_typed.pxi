# Cells as the values that their texts are; see _python_typed.py for what counts. Included by _cython.pyx.
#
# Each reader says with -1 that the text isn't the very text of a value it makes. It compares the text's size
# first, and never looks behind it.

cdef enum:
    _MOST_DIGITS = 38
    _EPOCH_DAYS = 719162  # from 0001-01-01 to 1970-01-01

cdef int _days_before[13]
_days_before[:] = [0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]
cdef int _days_in[13]
_days_in[:] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
cdef uint64_t _tens[20]
cdef double _float_tens[20]  # exact, as all are up to 10^22
cdef int _power
_tens[0] = 1
_float_tens[0] = 1
for _power in range(1, 20):
    _tens[_power] = _tens[_power - 1] * 10
    _float_tens[_power] = _float_tens[_power - 1] * 10
# What a lower-case hexadecimal digit means; 255: it is none.
cdef unsigned char _hexadecimal[256]
memset(_hexadecimal, 255, sizeof(_hexadecimal))
for _power in range(10):
    _hexadecimal[c'0' + _power] = <unsigned char>_power
for _power in range(10, 16):
    _hexadecimal[c'a' + _power - 10] = <unsigned char>_power

ctypedef int (*reader_t)(octets at, Py_ssize_t size, void* to) noexcept nogil


cdef object refuse_inexact():
    raise ValueError("a text that isn't held exactly")


cdef inline int unhex(octets at, Py_ssize_t count, unsigned char* to) noexcept nogil:
    """``count`` bytes of twice as many digits; -1: they are none."""
    cdef Py_ssize_t i
    cdef unsigned char high, low, wrong = 0
    for i in range(count):
        high, low = _hexadecimal[at[2 * i]], _hexadecimal[at[2 * i + 1]]
        wrong |= high | low
        to[i] = <unsigned char>((high << 4) | (low & 15))
    return -1 if wrong > 15 else 0


cdef inline int two_digits(octets at) noexcept nogil:
    """0 to 99; -1: they are none."""
    cdef unsigned int tens = <unsigned int>at[0] - c'0', ones = <unsigned int>at[1] - c'0'
    return <int>(10 * tens + ones) if tens <= 9 and ones <= 9 else -1


cdef int days_of(octets at, int32_t* days) noexcept nogil:
    """Of the ten bytes at ``at``."""
    cdef int century = two_digits(at), rest = two_digits(at + 2)
    cdef int month = two_digits(at + 5), day = two_digits(at + 8)
    cdef unsigned int year, before
    cdef bint leap
    if century < 0 or rest < 0 or at[4] != c'-' or at[7] != c'-' or month < 1 or month > 12 or day < 1:
        return -1
    year = <unsigned int>(100 * century + rest)
    if year == 0:
        return -1
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > _days_in[month] + (1 if leap and month == 2 else 0):
        return -1
    before = year - 1
    days[0] = <int32_t>(365 * before + before // 4 - before // 100 + before // 400)
    days[0] += _days_before[month] + (1 if leap and month > 2 else 0) + day - 1 - _EPOCH_DAYS
    return 0


cdef int microseconds_of(octets at, Py_ssize_t size, int64_t* microseconds) noexcept nogil:
    """Of a time of day that fills ``size`` bytes."""
    cdef int hours, minutes, seconds, fraction = 0
    cdef Py_ssize_t i
    if size < 8 or size == 9 or size > 15:
        return -1
    hours, minutes, seconds = two_digits(at), two_digits(at + 3), two_digits(at + 6)
    if at[2] != c':' or at[5] != c':' or hours < 0 or hours > 23:
        return -1
    if minutes < 0 or minutes > 59 or seconds < 0 or seconds > 59:
        return -1
    if size > 8:
        if at[8] != c'.' or at[size - 1] == c'0':
            return -1
        for i in range(9, 15):
            fraction *= 10
            if i < size:
                if at[i] < c'0' or at[i] > c'9':
                    return -1
                fraction += at[i] - c'0'
    microseconds[0] = (<int64_t>(hours * 3600 + minutes * 60 + seconds)) * 1000000 + fraction
    return 0


cdef int a_date(octets at, Py_ssize_t size, void* to) noexcept nogil:
    cdef int32_t days = 0
    if size != 10 or days_of(at, &days) < 0:
        return -1
    memcpy(to, &days, 4)
    return 0


cdef int a_time(octets at, Py_ssize_t size, void* to) noexcept nogil:
    cdef int64_t microseconds = 0
    if microseconds_of(at, size, &microseconds) < 0:
        return -1
    memcpy(to, &microseconds, 8)
    return 0


cdef int a_timestamp(octets at, Py_ssize_t size, void* to) noexcept nogil:
    cdef int32_t days = 0
    cdef int64_t microseconds = 0
    if size < 19 or at[10] != c' ' or days_of(at, &days) < 0:
        return -1
    if microseconds_of(at + 11, size - 11, &microseconds) < 0:
        return -1
    microseconds += <int64_t>days * 86400 * 1000000
    memcpy(to, &microseconds, 8)
    return 0


cdef int a_timestamptz(octets at, Py_ssize_t size, void* to) noexcept nogil:
    if size < 22 or at[size - 3] != c'+' or at[size - 2] != c'0' or at[size - 1] != c'0':
        return -1
    return a_timestamp(at, size - 3, to)


cdef int number_of(
    octets at, Py_ssize_t size, int most, double* value, bint* negative
) noexcept nogil:
    """A number of up to ``most`` (15) figures, without an exponent and no nearer to 0 than 0.0001."""
    cdef Py_ssize_t i, whole = 0, behind = 0
    cdef int figures = 0
    cdef uint64_t found = 0
    negative[0] = size > 0 and at[0] == c'-'
    if negative[0]:
        at += 1
        size -= 1
    if size < 1 or size > 20:  # 0.000 and 15 figures
        return -1
    while whole < size and at[whole] != c'.':
        whole += 1
    if whole < 1 or (at[0] == c'0' and whole > 1):
        return -1
    if whole < size:
        behind = size - whole - 1
        if behind < 1 or at[size - 1] == c'0':
            return -1
    for i in range(size):
        if i == whole:
            continue
        if at[i] < c'0' or at[i] > c'9':
            return -1
        if figures > 0 or at[i] != c'0':
            figures += 1
        found = found * 10 + (at[i] - c'0')  # of at most 20 digits
        if figures > most:
            return -1
    if figures == 0 and negative[0]:
        return -1
    if at[0] == c'0' and behind - figures > 3:
        return -1
    value[0] = (<double>found) / _float_tens[behind]
    return 0


cdef int a_double(octets at, Py_ssize_t size, void* to) noexcept nogil:
    cdef double value = 0
    cdef bint negative = False
    if number_of(at, size, 15, &value, &negative) < 0:
        return -1
    if negative:
        value = -value
    memcpy(to, &value, 8)
    return 0


cdef int a_float(octets at, Py_ssize_t size, void* to) noexcept nogil:
    """By a division of doubles: the quotient of two floats is rounded to a float as if it were exact."""
    cdef double value = 0
    cdef float rounded
    cdef bint negative = False
    if number_of(at, size, 6, &value, &negative) < 0:
        return -1
    rounded = <float>(-value if negative else value)
    memcpy(to, &rounded, 4)
    return 0


cdef bytes values_of(const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows, reader_t read, Py_ssize_t wide):
    """A value of ``wide`` bytes for each cell, zeros for NULL."""
    cdef Py_ssize_t i
    cdef const cell_t* cell
    cdef bytes made
    cdef char* to
    cdef bint wrong = False
    if rows > MOST // wide:
        raise MemoryError
    made = PyBytes_FromStringAndSize(NULL, rows * wide)
    to = PyBytes_AS_STRING(made)
    with nogil:
        for i in range(rows):
            cell = cells + i * stride
            if cell.size < 0:
                memset(to + i * wide, 0, <size_t>wide)
            elif read(cell.at, cell.size, to + i * wide) < 0:
                wrong = True
                break
    if wrong:
        refuse_inexact()
    return made


cdef void multiplied(uint64_t one, uint64_t other, uint64_t more, uint64_t* halves) noexcept nogil:
    """``one`` times ``other`` and ``more``: the lower half and the upper one."""
    cdef uint64_t low = <uint32_t>one, high = one >> 32
    cdef uint64_t low_too = <uint32_t>other, high_too = other >> 32
    cdef uint64_t first = low * low_too, crossed = low * high_too, crossed_too = high * low_too
    cdef uint64_t middle = (first >> 32) + <uint32_t>crossed + <uint32_t>crossed_too
    halves[0] = <uint64_t><uint32_t>first | (middle << 32)
    halves[1] = high * high_too + (crossed >> 32) + (crossed_too >> 32) + (middle >> 32)
    halves[0] += more
    if halves[0] < more:
        halves[1] += 1


cdef int decimal_of(octets at, Py_ssize_t size, int precision, int scale, uint64_t* halves) noexcept nogil:
    """``precision`` is at most 38, ``scale`` less."""
    cdef bint negative = size > 0 and at[0] == c'-'
    cdef Py_ssize_t i, whole, taken = 0
    cdef uint64_t found = 0, rest = 0
    if negative:
        at += 1
        size -= 1
    whole = size - (scale + 1 if scale > 0 else 0)
    if whole < 1 or whole > precision - scale or (at[0] == c'0' and whole > 1):
        return -1
    if scale > 0 and at[whole] != c'.':
        return -1
    for i in range(size):
        if i == whole:
            continue
        if at[i] < c'0' or at[i] > c'9':
            return -1
        if taken < 19:
            found = found * 10 + (at[i] - c'0')
        else:
            rest = rest * 10 + (at[i] - c'0')
        taken += 1
    halves[0], halves[1] = found, 0
    if taken > 19:
        multiplied(found, _tens[taken - 19], rest, halves)
    if negative:
        if halves[0] == 0 and halves[1] == 0:
            return -1
        halves[0] = 0 - halves[0]
        halves[1] = ~halves[1] + (1 if halves[0] == 0 else 0)
    return 0


cdef bytes decimals_of(const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows, int precision, int scale):
    cdef Py_ssize_t i
    cdef const cell_t* cell
    cdef bytes made
    cdef char* to
    cdef uint64_t[2] halves
    cdef bint wrong = False
    if not 0 <= scale < precision <= _MOST_DIGITS:
        raise ValueError(f"decimals of {precision} and {scale} digits")
    if rows > MOST // 16:
        raise MemoryError
    made = PyBytes_FromStringAndSize(NULL, rows * 16)
    to = PyBytes_AS_STRING(made)
    with nogil:
        for i in range(rows):
            cell = cells + i * stride
            halves[0] = halves[1] = 0
            if cell.size >= 0 and decimal_of(cell.at, cell.size, precision, scale, halves) < 0:
                wrong = True
                break
            memcpy(to + i * 16, halves, 16)
    if wrong:
        refuse_inexact()
    return made


cdef tuple unhexed(const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows):
    cdef Py_ssize_t i, size = 0
    cdef const cell_t* cell
    cdef bytes offsets, data
    cdef int32_t* offset
    cdef unsigned char* to
    cdef int status = 0
    with nogil:
        for i in range(rows):
            cell = cells + i * stride
            if cell.size < 0:
                continue
            if cell.size < 2 or cell.size % 2 or cell.at[0] != c'\\' or cell.at[1] != c'x':
                status = -1
                break
            if cell.size // 2 - 1 > _MOST_ARROW - size:
                status = -2
                break
            size += cell.size // 2 - 1
    if status == -1:
        refuse_inexact()
    if status == -2:
        raise ValueError("a column of more than 2 GB")
    if rows > MOST // 8:
        raise MemoryError
    offsets = PyBytes_FromStringAndSize(NULL, 4 * (rows + 1))
    data = PyBytes_FromStringAndSize(NULL, size)
    offset = <int32_t*>PyBytes_AS_STRING(offsets)
    to = <unsigned char*>PyBytes_AS_STRING(data)
    with nogil:
        size = 0
        offset[0] = 0
        for i in range(rows):
            cell = cells + i * stride
            if cell.size > 0:
                if unhex(cell.at + 2, cell.size // 2 - 1, to + size) < 0:
                    status = -1
                size += cell.size // 2 - 1
            offset[i + 1] = <int32_t>size
    if status:
        refuse_inexact()
    return offsets, data
