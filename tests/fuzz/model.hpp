// tests/fuzz/model.hpp: how a program must end, computed without coroutines.
//
// `eval` gives the ending of one node: how, when, and what it and all below it log. A stop is a parameter: the instant
// at which the scope around is stopped. So a group is first evaluated as if nothing failed, which tells when the first
// failure comes, and then once more with a stop at that instant. Two events of one instant may come in either order.
// Where that matters, evaluating with both orders gives two results, and the model says that it cannot tell (`exact`).
#pragma once

#include "program.hpp"

#include <algorithm>
#include <compare>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace fuzz {

/// A stop that comes at an instant, before or after the waits that begin and end within that instant.
///
/// What has waited for the instant itself is woken before anything runs in it, so it wins over either.
struct stop_at {
  long at = std::numeric_limits<long>::max();
  bool late = true;
  bool came(long t) const { return t > at || (t == at && !late); }
  auto operator<=>(const stop_at&) const = default;
};

struct result {
  how end = how::value;
  std::uint32_t code = 0;
  long at = 0;
  bool waited = false;  // it did not end at once
  bool exact = true;    // the order of events of one instant does not matter
  std::vector<entry> log;
  bool operator==(const result&) const = default;
};

class model {
 public:
  /// A tree that is spawned at `t`, and its handler.
  result tree(const node& n, long t, stop_at s) {
    result r = in_its_turn(n, t, s);
    r.log.push_back({n.number, true, r.end, r.code, r.at});
    return r;
  }
  /// What `evaluate` gives for a stop at `t`, before or after what else happens then: the same must come of it.
  template <class F>
  static result either(long t, stop_at s, F evaluate) {
    result r = evaluate(std::min(s, stop_at{t, false}));
    if (s >= stop_at{t, false} && evaluate(std::min(s, stop_at{t, true})) != r) r.exact = false;
    return r;
  }

 private:
  static result ends(how h, std::uint32_t code, long t, bool waited = false) { return {h, code, t, waited, true, {}}; }

  /// A wait from `t` to `due`; `due == t` is one turn of the others.
  static result wait(long t, long due, std::uint32_t v, stop_at s) {
    const bool granted = due == t ? !s.came(t) : due <= s.at;
    return granted ? ends(how::value, v, due, true) : ends(how::stopped, 0, std::max(t, s.at), true);
  }
  /// A tree of its own, which starts in its turn.
  result in_its_turn(const node& n, long t, stop_at s) {
    result r = wait(t, t, 0, s);
    if (r.end == how::value) r = eval(n, t, s);
    r.waited = true;
    return r;
  }
  /// `r` with what happened beside it.
  static result with(result r, const result& other) {
    r.log.insert(r.log.end(), other.log.begin(), other.log.end());
    r.exact &= other.exact;
    return r;
  }
  /// `next` after `r`, which has a value.
  static result then(result r, const result& next) {
    r = with(std::move(r), next);
    r.code = next.end == how::value ? mix(r.code, next.code) : next.code;
    r.end = next.end, r.at = next.at, r.waited |= next.waited;
    return r;
  }
  static result clean_up(result r, const result& c) {
    r = with(std::move(r), c);
    r.at = c.at, r.waited |= c.waited;
    if (c.end != how::failed) return r;
    r.code = r.end == how::failed ? group_of({r.code, c.code}) : c.code;
    r.end = how::failed;
    return r;
  }

  result eval(const node& n, long t, stop_at s) {
    if (++steps_ > 20'000) return {how::value, 0, t, false, false, {}};  // too long to tell
    result r = act(n, t, s);
    r.log.push_back({n.number, false, r.end, r.code, r.at});
    return r;
  }

  result act(const node& n, long t, stop_at s) {
    const std::uint32_t v = n.number;
    const result here = ends(how::value, v, t);
    const auto child = [&](std::size_t i, long from, stop_at stop) { return eval(n.children[i], from, stop); };
    switch (n.what) {
      case kind::value:
        return here;
      case kind::fail:
        return ends(how::failed, v, t);
      case kind::sleep:
        return wait(t, t + n.seconds(), v, s);
      case kind::sleep_until:
        return wait(t, std::max(t, 2 * n.seconds()), v, s);
      case kind::yield:
        return wait(t, t, v, s);
      case kind::post: {
        result r = wait(t, t, v, s);
        r.exact = s.at != t;  // once begun it is not stopped
        return r;
      }
      case kind::stop: {
        result r = here;
        r.exact = false;
        return r;
      }
      case kind::call:
        return then(here, child(0, t, s));
      case kind::deep: {
        result r = then(here, child(0, t, s));
        r.waited = true;
        r.exact &= s.at != t;  // put off, it starts in a scope that has been stopped, but not if that is stopped now
        return r;
      }
      case kind::try_catch: {
        result r = then(here, child(0, t, s));
        if (r.end == how::failed) r.end = how::value, r.code = mix(v, r.code);
        return r;
      }
      case kind::timeout:
      case kind::try_timeout:
      case kind::deadline: {
        const long due = n.what == kind::deadline ? std::max(t, 2 * n.seconds()) : t + n.seconds();
        result r = then(here, either(due, s, [&](stop_at x) { return child(0, t, x); }));
        if (r.end != how::stopped || s.came(r.at)) return r;
        const bool gives = n.what == kind::try_timeout;
        r.end = gives ? how::value : how::failed;
        r.code = gives ? mix(v, late) : late;
        return r;
      }
      case kind::shield:
        return then(here, child(0, t, {}));
      case kind::on:
      case kind::await_spawned:
        return then(here, in_its_turn(n.children[0], t, s));
      case kind::spawn:
        return with(here, tree(n.children[0], t, {}));
      case kind::spawn_and_stop:
        return with(here, either(t + n.seconds(), {}, [&](stop_at x) { return tree(n.children[0], t, x); }));
      case kind::finally: {
        result r = then(here, child(0, t, s));
        return clean_up(r, child(1, r.at, {}));
      }
      case kind::with_resource: {
        result r = then(here, child(0, t, s));
        if (r.end != how::value) return r;
        r.code = v;
        r = then(r, child(1, r.at, s));
        return clean_up(r, child(2, r.at, {}));
      }
      case kind::sequence: {
        result r = here;
        for (std::size_t i = 0; i != n.children.size() && r.end == how::value; ++i) r = then(r, child(i, r.at, s));
        return r;
      }
      case kind::gather:
      case kind::gather_void:
      case kind::gather_tuple:
      case kind::gather_outcomes:
      case kind::gather_two_outcomes:
      case kind::transform:
      case kind::transform_outcomes:
      case kind::for_each:
        return group(n, t, s);
    }
    std::abort();
  }

  struct child_run {
    const node* what;  // null: the function of a fan-out throws
    long began;
    result r;
    bool over;
  };

  result group(const node& n, long t, stop_at s) {
    const std::size_t count = n.fans_out() ? n.elements() : n.children.size();
    const std::size_t limit = n.fans_out() ? n.limit() : count;
    const auto fails = [&](const child_run& k) { return k.r.end == how::failed && (!k.what || !n.gives_outcomes()); };
    result out = ends(how::value, n.number, t);
    std::vector<child_run> runs;
    std::size_t under_way = 0;
    bool failed = false, some_stopped = false;
    long now = t;

    // Until the first failure, a stop from outside is all that bears on the children.
    for (;;) {
      // A group that begins in a stopped scope goes on starting children; one that is stopped later does not.
      const bool stop_came = s.came(now) && !s.came(t);
      if (s.at == t && out.waited && runs.size() != count) out.exact = false;  // which of the two is it?
      while (runs.size() != count && under_way != limit && !failed && !some_stopped && !stop_came) {
        const unsigned i = static_cast<unsigned>(runs.size());
        child_run k{
            n.fans_out() && i == n.throws_at() ? nullptr : &n.children[n.fans_out() ? i % 2 : i], now, {}, true};
        k.r = k.what ? eval(*k.what, now, s) : ends(how::failed, of_element + i, now);
        k.over = !k.r.waited;
        under_way += !k.over;
        failed = k.over && fails(k);
        runs.push_back(std::move(k));
      }
      if (failed || under_way == 0) break;
      out.waited = true;
      now = std::numeric_limits<long>::max();
      for (const child_run& k : runs)
        if (!k.over) now = std::min(now, k.r.at);
      bool some_ended_well = false;
      for (child_run& k : runs) {
        if (k.over || k.r.at != now) continue;
        k.over = true;
        --under_way;
        if (fails(k))
          failed = true;
        else if (k.r.end == how::stopped)
          some_stopped = true;
        else
          some_ended_well = true;
      }
      // Those of one instant that ended well may come first, and let another child start.
      if ((failed || some_stopped) && some_ended_well && runs.size() != count) out.exact = false;
      if (failed) break;
    }

    // The first failure stops whoever is left. In the first round that is before any of them has run again.
    if (failed) {
      const auto fails_now = [&](const child_run& k) { return k.over && fails(k) && k.r.at == now; };
      const auto firsts = std::count_if(runs.begin(), runs.end(), fails_now);
      for (child_run& k : runs) {
        out.exact &= k.r.exact;
        if (k.r.at < now || !k.r.waited || (firsts == 1 && fails_now(k))) continue;
        const auto again = [&](stop_at x) { return eval(*k.what, k.began, x); };
        result r = out.waited ? either(now, s, again) : again(std::min(s, stop_at{now, false}));
        if (fails_now(k) && r != k.r) out.exact = false;  // it may not be the first
        k.r = std::move(r);
      }
    }

    std::vector<std::uint32_t> failures;
    some_stopped = runs.size() != count;
    for (const child_run& k : runs) some_stopped |= k.r.end == how::stopped;
    for (const child_run& k : runs) {
      out = with(std::move(out), k.r);
      out.at = std::max(out.at, k.r.at);
      out.code = mix(out.code, k.r.code);
      out.waited |= k.r.waited;
      if (k.r.end != how::failed) continue;
      bool counts = fails(k);
      if (!counts && (failed || some_stopped)) {  // an outcome that nobody will see counts if it came after the stop
        const stop_at stop = failed ? stop_at{now, false} : s;
        counts = stop.came(k.r.at);
        if (k.r.at == stop.at) out.exact = false;
      }
      if (counts) failures.push_back(k.r.code);
    }
    if (n.what == kind::gather_void || n.what == kind::for_each) out.code = n.number;
    if (!failures.empty())
      out.end = how::failed, out.code = group_of(failures);
    else if (some_stopped)
      out.end = how::stopped, out.code = 0, out.waited = true;
    return out;
  }

  unsigned steps_ = 0;
};

}  // namespace fuzz
