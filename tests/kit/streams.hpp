// tests/kit/streams.hpp: what a stream gives, all of it, or how it fails.
#pragma once

#include <tandem/generator.hpp>

#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace kit {

template <class T>
tandem::task<std::vector<T>> all_of(tandem::generator<T> g) {
  std::vector<T> all;
  while (auto one = co_await g.next()) all.push_back(*std::move(one));
  co_return all;
}
template <class T>
tandem::task<std::string> failure_of(tandem::generator<T> g) {
  try {
    while (co_await g.next()) {
    }
  } catch (const std::exception& e) {
    co_return e.what();
  }
  co_return "";
}

}  // namespace kit
