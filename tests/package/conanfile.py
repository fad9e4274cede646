"""The Conan 2 recipe of the checkout that it is part of: conan create tests/package -s compiler.cppstd=20"""
import os

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy
from conan.tools.layout import basic_layout


class TandemConan(ConanFile):
    name = "tandem"
    version = "0.1.0"
    description = "C++20 coroutine toolkit on Asio, header-only"
    license = "BSL-1.0"
    topics = ("coroutines", "asio", "asynchronous", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"asio": [True, False], "boost": [True, False]}
    default_options = {"asio": True, "boost": False}
    no_copy_source = True

    def layout(self):
        basic_layout(self)

    def export_sources(self):
        checkout = os.path.join(self.recipe_folder, "..", "..")
        for pattern in ("include/*", "LICENSE"):
            copy(self, pattern, checkout, self.export_sources_folder)

    def requirements(self):
        if self.options.asio:
            self.requires("asio/[>=1.22.1 <2]")
        if self.options.boost:
            self.requires("boost/[>=1.81 <2]", options={"header_only": True})

    def package_id(self):
        self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)
        if not self.options.asio and not self.options.boost:
            raise ConanInvalidConfiguration("tandem needs an Asio: one of its options asio and boost")

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        copy(self, "*.hpp", os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "tandem")
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        if self.options.asio:
            self.flavour("tandem", "asio::asio")
        if self.options.boost:
            self.flavour("boost", "boost::headers").defines = ["TANDEM_BOOST_ASIO"]

    def flavour(self, name, asio):
        component = self.cpp_info.components[name]
        component.set_property("cmake_target_name", f"tandem::{name}")
        component.requires = [asio]
        component.bindirs = []
        component.libdirs = []
        if self.settings.os in ("Linux", "FreeBSD"):
            component.system_libs = ["pthread"]
        return component
