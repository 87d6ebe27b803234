"""The part of the build that pyproject.toml can't say: the compiled kernel, where it can be compiled.

Without a C compiler or without Python's headers the package is built all the same, with the kernel in plain
Python. The environment variable LOGSHIP_KERNEL=python leaves the compiled one out on purpose.
"""

import os

from setuptools import Extension, setup


def extensions():
    if os.environ.get("LOGSHIP_KERNEL") == "python":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:  # built without isolation, in an environment that has no Cython
        return []
    kernel = Extension(
        "logship.kernel._cython",
        ["logship/kernel/_cython.pyx"],
        extra_compile_args=["-O2", "-g0"],  # half of the time that -O3 takes, and nothing is slower
    )
    made = cythonize([kernel], build_dir="build/cython", language_level=3)
    for extension in made:
        extension.optional = True  # cythonize takes over everything but this
    return made


setup(ext_modules=extensions())
