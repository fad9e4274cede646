// tests/fuzz/driver.hpp: the program around a fuzz target: libFuzzer, if it is built with TANDEM_LIBFUZZER, else a
// `main` that replays files and then tries random bytes: fuzz_... [-programs=N] [-seconds=N] [-seed=N] [file or
// folder...]
#pragma once

#include "program.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace fuzz {
/// The target. Aborts when it finds something.
void try_program(std::span<const std::uint8_t> bytes);
/// A line about what was tried.
void tell();
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::running.bytes = {data, size};
  fuzz::try_program({data, size});
  return 0;
}

#if !defined(TANDEM_LIBFUZZER)

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

inline unsigned long tried = 0;

inline void try_as(const std::string& name, const std::vector<char>& bytes) {
  running.name = name.c_str();
  ++tried;
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

inline void replay(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    for (const auto& file : std::filesystem::directory_iterator(path)) replay(file.path());
    return;
  }
  std::ifstream in(path, std::ios::binary);
  check(in.is_open(), "an input can be read");
  try_as(path.string(), {std::istreambuf_iterator<char>(in), {}});
}

}  // namespace fuzz

int main(int argc, char** argv) {
  unsigned long programs = 0, most_seconds = 5, seed = 1;
  for (const std::string& arg : std::vector<std::string>(argv + 1, argv + argc)) {
    const auto number = [&](std::string_view option, unsigned long& n) {
      if (!arg.starts_with(option)) return false;
      n = std::stoul(arg.substr(option.size()));
      return true;
    };
    if (!number("-programs=", programs) && !number("-seconds=", most_seconds) && !number("-seed=", seed))
      fuzz::replay(arg);
  }
  const unsigned long replayed = fuzz::tried;

  std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(most_seconds);
  for (unsigned long i = 0; i != programs && std::chrono::steady_clock::now() < until; ++i) {
    std::vector<char> bytes(8 + random() % 120);
    for (char& b : bytes) b = static_cast<char>(random());
    fuzz::try_as("random program " + std::to_string(i) + " of seed " + std::to_string(seed), bytes);
  }
  std::printf("%lu inputs replayed, %lu random ones tried. ", replayed, fuzz::tried - replayed);
  fuzz::tell();
}

#endif
