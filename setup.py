"""The part of the build that pyproject.toml can't say: the compiled kernel, where it can be compiled.

Without a C compiler or without Python's headers the package is built all the same, with the kernel in plain
Python, and a wheel of it is bound to no platform. The environment variable LOGSHIP_KERNEL=python leaves the compiled
one out on purpose.
"""

import os
import runpy

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel


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
        define_macros=[("LOGSHIP_SOURCES", f'"{runpy.run_path("logship/kernel/sources.py")["digest"]()}"')],
        extra_compile_args=["-O2", "-g0"],  # half of the time that -O3 takes, and nothing is slower
    )
    made = cythonize([kernel], build_dir="build/cython", language_level=3)
    for extension in made:
        extension.optional = True  # cythonize takes over everything but this
    return made


class Wheel(bdist_wheel):
    """Bound to a platform only by what was compiled: setuptools goes by what there was to compile."""

    def run(self):
        if not self.skip_build:
            self.run_command("build")
        made = self.get_finalized_command("build_ext").get_outputs()
        if not any(map(os.path.exists, made)):
            self.distribution.ext_modules = []
            self.root_is_pure = True
        super().run()


setup(ext_modules=extensions(), cmdclass={"bdist_wheel": Wheel})
