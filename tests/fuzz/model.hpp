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
  bool waited = false;                            // it did not end at once
  bool exact = true;                              // the order of events of one instant does not matter
  long strays = 0;                                // the end of what only the tree waits for
  std::vector<std::uint32_t> failures_of_strays;  // which the tree ends with
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
  static result ends(how h, std::uint32_t code, long t, bool waited = false) {
    return {h, code, t, waited, true, 0, {}, {}};
  }

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
    r.at = std::max(r.at, std::exchange(r.strays, 0));
    // The frame of a stopped root goes after all others of the tree.
    if (r.end == how::stopped && !r.log.empty()) r.log.back().at = r.at;
    std::vector<std::uint32_t> failures = std::exchange(r.failures_of_strays, {});
    if (failures.empty()) return r;
    if (r.end == how::failed) failures.push_back(r.code);
    r.end = how::failed, r.code = group_of(failures);
    return r;
  }
  /// `r` with what happened beside it.
  static result with(result r, const result& other) {
    r.log.insert(r.log.end(), other.log.begin(), other.log.end());
    r.exact &= other.exact;
    r.strays = std::max(r.strays, other.strays);
    r.failures_of_strays.insert(r.failures_of_strays.end(), other.failures_of_strays.begin(),
                                other.failures_of_strays.end());
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
    if (++steps_ > 20'000) return {how::value, 0, t, false, false, 0, {}, {}};  // too long to tell
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
        const bool before = std::exchange(order_counts_, false);
        result r = then(here, child(0, t, s));
        r.waited = true;
        r.exact &= s.at != t;  // put off, it starts in a scope that has been stopped, but not if that is stopped now
        r.exact &= !order_counts_;
        order_counts_ |= before;
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
      case kind::race:
      case kind::race_successful:
      case kind::race_tuple:
      case kind::race_sleep:
        return race(n, t, s);
      case kind::race_waits: {  // of two that are due at one instant the one that began first is woken first
        const long other = n.a / 8 % 8;
        return wait(t, t + std::min(n.seconds(), other), mix(v, other < n.seconds()), s);
      }
      case kind::task_group:
      case kind::cancel_group:
      case kind::cancel_handle:
      case kind::wait:
        return task_group(n, t, s);
      case kind::handles: {
        result r = s.came(t) ? ends_in(ends(how::value, 0, t), {}) : child(0, t, s);  // else it never ran
        if (s.at == t || (r.waited && r.at == s.at && r.end == how::value)) r.exact = false;
        if (r.waited && s.at < r.at && r.end == how::value) r.end = how::stopped, r.code = 0;  // who awaits it is
        return then(here, r);
      }
      case kind::start:
        return start(n, t, s);
      case kind::close:
        return close(n, t, s);
      case kind::as_completed:
      case kind::as_completed_some:
        return stream(n, t, s);
      case kind::permits:
      case kind::weighted:
      case kind::lock:
        return group(n, t, s);
      case kind::event:
      case kind::condition:
        return after_the_first(n, t, s);
      case kind::lines: {  // they are shared by the whole program
        result r = then(here, child(0, t, s));
        r.exact = false;
        return r;
      }
      case kind::queue_push:
      case kind::queue_push_range:
      case kind::queue_pop:
      case kind::queue_pop_some:
      case kind::queue_try:
      case kind::queue_race:
      case kind::queue_end: {  // who else uses the queue then?
        result r = here;
        r.exact = false;
        return r;
      }
      case kind::queue_between: {  // one that pops waits until the child has ended, and what it gave has been pushed
        result r = then(here, child(0, t, s));
        r.waited = true;
        if (s.at == t || s.at == r.at) r.exact = false;
        if (r.end != how::value) return r;
        if (s.came(r.at)) return r.end = how::stopped, r.code = 0, r;
        for (unsigned i = 1; i != n.items(); ++i) r.code = mix(r.code, r.code);
        return r;
      }
      case kind::pool:
      case kind::pool_handles:
      case kind::pool_beside:
        return pool(n, t, s);
      case kind::generator:  // of one item, what the child gives
        return then(here, child(0, t, s));
      case kind::lease:  // who else has one?
      case kind::cache:  // what is there?
      case kind::limit:  // whose turn is it?
      case kind::guard:  // is the circuit closed?
      case kind::scheduler:
      case kind::flow:
      case kind::pool_crowd: {  // who comes first?
        result r = here;
        r.exact = false;
        return r;
      }
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
    const std::size_t limit = n.fans_out() ? n.limit() : n.waits_in_line() ? n.permits() : count;
    const auto fails = [&](const child_run& k) { return k.r.end == how::failed && (!k.what || !n.gives_outcomes()); };
    result out = ends(how::value, n.number, t);
    std::vector<child_run> runs;
    std::size_t under_way = 0, taken = 0;
    const auto has_place = [&](std::size_t i) {
      if (i == count) return false;
      return n.waits_in_line() ? taken + n.takes_permits(i) <= limit : under_way != limit;
    };
    bool failed = false, some_stopped = false;
    long now = t;

    // Until the first failure, a stop from outside is all that bears on the children.
    for (;;) {
      // A group that begins in a stopped scope goes on starting children; one that is stopped later does not.
      const bool stop_came = s.came(now) && !s.came(t);
      if (s.at == t && out.waited && runs.size() != count) out.exact = false;  // which of the two is it?
      // A permit that was granted before the stop begins its child after it.
      if (s.at == now && n.waits_in_line() && out.waited && runs.size() != count) out.exact = false;
      while (has_place(runs.size()) && !failed && !some_stopped && !stop_came) {
        const unsigned i = static_cast<unsigned>(runs.size());
        child_run k{
            n.fans_out() && i == n.throws_at() ? nullptr : &n.children[n.fans_out() ? i % 2 : i], now, {}, true};
        k.r = k.what ? eval(*k.what, now, s) : ends(how::failed, of_element + i, now);
        k.over = !k.r.waited;
        under_way += !k.over;
        taken += k.over ? 0 : n.takes_permits(i);
        failed = k.over && fails(k);
        runs.push_back(std::move(k));
      }
      if (failed || under_way == 0) break;
      out.waited = true;
      now = std::numeric_limits<long>::max();
      for (const child_run& k : runs)
        if (!k.over) now = std::min(now, k.r.at);
      // A stop takes those in line out one by one, and when one who asks for many has gone, one behind may be granted.
      for (std::size_t i = runs.size(); n.waits_in_line() && s.at < now && i != count; ++i)
        if (taken + n.takes_permits(i) <= limit) out.exact = false;
      bool some_ended_well = false;
      for (child_run& k : runs) {
        if (k.over || k.r.at != now) continue;
        k.over = true;
        --under_way;
        taken -= n.takes_permits(static_cast<std::size_t>(&k - runs.data()));
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

    // Who fails gives back his permit, and the next in line begins, before the others are stopped.
    if (failed && n.waits_in_line() && out.waited && runs.size() != count) out.exact = false;
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

  // ---- races, task groups, streams, events

  /// Children that are begun and stopped by one scope, each with the earliest stop that came to it.
  struct siblings {
    model& all;
    std::vector<child_run> runs = {};
    std::vector<stop_at> stops = {};
    std::vector<bool> stopped_alone = {};
    bool exact = true;

    child_run& begin(const node& n, long t, stop_at s) {
      runs.push_back({&n, t, all.eval(n, t, s), false});
      runs.back().over = !runs.back().r.waited;
      stops.push_back(s);
      stopped_alone.push_back(false);
      return runs.back();
    }
    /// A stop at `at`; `before_all`: before anything that has waited runs again.
    void stop(std::size_t i, long at, bool before_all) {
      child_run& k = runs[i];
      if (k.over || k.r.at < at) return;
      exact &= k.r.exact;
      const auto again = [&](stop_at x) { return all.eval(*k.what, k.began, x); };
      const bool failed_then = k.r.end == how::failed && k.r.at == at;
      result r = before_all ? again(std::min(stops[i], stop_at{at, false})) : either(at, stops[i], again);
      if (failed_then && r != k.r) exact = false;  // it may have come first
      k.r = std::move(r);
      stops[i] = std::min(stops[i], stop_at{at, false});
      stopped_alone[i] = true;
    }
    void stop_all(long at, bool before_all, std::size_t but = ~std::size_t{}) {
      for (std::size_t i = 0; i != runs.size(); ++i)
        if (i != but) stop(i, at, before_all);
    }
    /// Did the stop that reached all of them end one of these? Not if it was stopped by itself before.
    bool cut_short(const std::vector<std::size_t>& which, stop_at s, result& out) const {
      bool cut = false;
      for (const std::size_t i : which) {
        if (runs[i].r.end != how::stopped || !(stops[i].at == s.at)) continue;
        cut = true;
        if (stopped_alone[i]) out.exact = false;  // at the same instant: which came first?
      }
      return cut;
    }
    /// The first failure stops the others.
    void heed_failures() {
      std::size_t first = runs.size();
      bool alone = true;
      for (std::size_t i = 0; i != runs.size(); ++i) {
        if (runs[i].r.end != how::failed || (first != runs.size() && runs[i].r.at > runs[first].r.at)) continue;
        alone = first == runs.size() || runs[i].r.at < runs[first].r.at;
        first = i;
      }
      if (first != runs.size()) stop_all(runs[first].r.at, false, alone ? first : ~std::size_t{});
    }
    long first_failure() const {
      long first = never;
      for (const child_run& k : runs)
        if (k.r.end == how::failed) first = std::min(first, k.r.at);
      return first;
    }
    /// `out` after all of them: the failures.
    std::vector<std::uint32_t> join(result& out) const {
      std::vector<std::uint32_t> failures;
      out.exact &= exact;
      for (const child_run& k : runs) {
        out = with(std::move(out), k.r);
        out.at = std::max(out.at, k.r.at);
        out.waited |= k.r.waited;
        if (k.r.end == how::failed) failures.push_back(k.r.code);
      }
      return failures;
    }
  };
  static result ends_in(result out, const std::vector<std::uint32_t>& failures) {
    out.end = failures.empty() ? how::stopped : how::failed;
    out.code = failures.empty() ? 0 : group_of(failures);
    out.waited |= failures.empty();
    return out;
  }

  result race(const node& n, long t, stop_at s) {
    const std::size_t none = ~std::size_t{};
    const bool first_value = n.is_first_successful();
    const auto decides = [&](const result& r) { return r.end == how::value || (r.end == how::failed && !first_value); };
    siblings arms{*this};
    arms.runs.reserve(4);
    result out = ends(how::value, n.number, t);
    result leaf = ends(how::stopped, 0, t);  // the second arm of race_sleep
    const bool has_leaf = n.what == kind::race_sleep;
    const long due = t + n.seconds();
    std::size_t winner = none;
    bool leaf_wins = false;
    for (std::size_t i = 0; i != n.children.size() && winner == none; ++i) {
      const child_run& k = arms.begin(n.children[i], t, s);
      if (k.over && decides(k.r)) winner = i;
      if (i != 0 || !has_leaf || winner != none) continue;
      leaf = wait(t, due, 0, s);
      if (s.at == t || s.at == due) out.exact = false;  // the leaf of a race around it may be due first, and stop it
    }
    if (winner != none) {
      arms.stop_all(t, true, winner);
    } else {
      long now = never;
      for (const child_run& k : arms.runs)
        if (decides(k.r)) now = std::min(now, k.r.at);
      if (has_leaf && leaf.end == how::value && leaf.at <= now) {
        // A timer that is due comes before whatever runs at that instant.
        leaf_wins = true;
        if (due == t && now == t) out.exact = false;
        now = due;
      }
      std::size_t at_once = 0;
      for (std::size_t i = 0; i != arms.runs.size() && !leaf_wins; ++i)
        if (decides(arms.runs[i].r) && arms.runs[i].r.at == now) winner = i, ++at_once;
      if (at_once > 1) out.exact = false;
      if (now != never) arms.stop_all(now, leaf_wins && due != t, winner);
      // What else is due at that instant is woken or stopped, by who began to wait first.
      for (const child_run& k : arms.runs)
        for (const entry& e : k.r.log)
          if (leaf_wins && e.at == due && e.end != how::stopped) out.exact = false;
      if (leaf_wins) out.at = due;
      out.waited = leaf.waited;
    }
    auto failures = arms.join(out);
    const bool decided = winner != none || leaf_wins;
    if (!decided && s.at <= out.at) {  // failures before the stop no longer count
      failures.clear();
      for (const child_run& k : arms.runs) {
        if (k.r.end != how::failed || k.r.at < s.at) continue;
        failures.push_back(k.r.code);
        if (k.r.at == s.at) out.exact = false;
      }
    }
    if (!decided || (!failures.empty() && !first_value)) return ends_in(std::move(out), failures);
    const std::size_t index = leaf_wins ? 1 : has_leaf && winner == 1 ? 2 : winner;
    out.code = mix(mix(out.code, static_cast<std::uint32_t>(index)), leaf_wins ? 0 : arms.runs[winner].r.code);
    return out;
  }

  /// What the body of a task group does: how it ends if nothing fails, and whether it waited for anything.
  ///
  /// All kinds begin children, then await one of them or `wait` for handles, and then may stop some.
  result task_group(const node& n, long t, stop_at s) {
    const bool waits = n.what == kind::wait;
    const bool cancels_handle = n.what == kind::cancel_handle;
    const std::size_t awaited = waits ? n.children.size() : cancels_handle ? 1 : 0;
    const bool never_run = s.came(t);  // a group that is stopping starts nothing
    result out = ends(how::value, n.number, t);
    out.exact = s.at != t;

    siblings crew{*this};
    crew.runs.reserve(4);
    std::vector<std::size_t> background, foreground;
    bool failed = false, cut_short = false;
    for (std::size_t i = 0; i != n.children.size(); ++i) {
      if (i == awaited) continue;
      const bool is_background = n.what == kind::task_group && n.is_background(i);
      cut_short |= never_run && !is_background;
      if (never_run || failed) continue;
      (is_background ? background : foreground).push_back(crew.runs.size());
      const child_run& k = crew.begin(n.children[i], t, s);
      failed = k.over && k.r.end == how::failed;
    }
    out.waited = n.what == kind::cancel_group && !never_run && !failed;  // who cancels it sleeps, and is to be stopped
    const std::size_t body = crew.runs.size();
    if (!waits) {
      // In a stopped scope it comes as far as it need not wait.
      order_counts_ |= failed;
      foreground.push_back(body);
      const child_run& k = crew.begin(n.children[awaited], t, failed ? std::min(s, stop_at{t - 1, true}) : s);
      failed |= k.over && k.r.end == how::failed;
    }
    if (failed) {
      crew.stop_all(t, true);
      const auto failures = crew.join(out);
      return ends_in(std::move(out), failures);
    }

    bool all_at_once = true;
    long last = t;
    for (const std::size_t i : foreground) {
      last = std::max(last, crew.runs[i].r.at);
      all_at_once &= crew.runs[i].over;
    }
    for (const std::size_t i : background) crew.stop(i, last, all_at_once);

    result mine = waits ? wait_for(n, t, s, crew, never_run) : crew.runs[body].r;
    out.exact &= mine.exact;
    bool is_cancelled = false;
    const long first = crew.first_failure();
    if (n.what == kind::cancel_group && !never_run) {
      const long due = t + n.seconds();
      const long nearest = std::min({first, last, s.at});
      if (due == nearest) out.exact = false;
      is_cancelled = due <= nearest && !all_at_once;
      if (is_cancelled) crew.stop_all(due, false);
    } else if (mine.end == how::value && mine.at <= first && (n.cancels() || cancels_handle)) {
      if (mine.at == first) out.exact = false;
      for (std::size_t i = 0; i != body; ++i)
        if (!waits || i >= done_.size() || !done_[i]) crew.stop(i, mine.at, !mine.waited);
    }
    crew.heed_failures();
    if (!waits) mine = crew.runs[body].r;

    if (cancels_handle && mine.end == how::value) {
      const child_run* h = never_run ? nullptr : &crew.runs[0];
      if (h && !h->over && h->r.at >= mine.at && s.at >= mine.at && s.at <= h->r.at) {
        if (s.at == mine.at || s.at == h->r.at) out.exact = false;
        mine.end = how::stopped;
      }
      mine.code = mix(mine.code, !h || h->r.end == how::stopped ? was_cancelled : h->r.code);
    }
    out.waited |= mine.waited;
    const auto failures = crew.join(out);
    if (!failures.empty()) return ends_in(std::move(out), failures);
    if (is_cancelled && mine.end != how::value) {
      if (s.at == out.at) out.exact = false;
      if (!s.came(out.at)) mine.end = how::value, mine.code = was_cancelled;
    }
    if (!is_cancelled) cut_short |= crew.cut_short(foreground, s, out);
    if (mine.end != how::value || cut_short) return ends_in(std::move(out), {});
    out.code = mix(out.code, mine.code);
    return out;
  }

  /// The child runs both of its children; who waits for its start goes on in between, or when his time is up.
  result start(const node& n, long t, stop_at s) {
    result out = ends(how::value, n.number, t);
    out.exact = s.at != t;
    if (s.came(t)) return ends_in(std::move(out), {});
    const auto first = [&](stop_at x) { return eval(n.children[0], t, x); };
    const long due = n.has_limit() ? t + n.seconds() : never;
    order_counts_ |= due == t;
    result r = first(s);
    const bool is_late = r.waited && due < std::min(r.at, s.at);
    const bool has_value = is_late || (r.end == how::value && (!r.waited || r.at <= s.at));
    if (r.waited && due <= s.at && due == r.at) out.exact = false;
    if (r.waited && s.at == std::min(due, r.at) && r.end != how::failed) out.exact = false;
    out.code = mix(out.code, is_late ? late : r.code);
    if (is_late) r = either(due, s, first);

    std::vector<std::uint32_t> failures;
    const auto add = [&](const result& next) {
      out = with(std::move(out), next);
      out.at = std::max(out.at, next.at);
      out.waited |= next.waited;
      if (next.end == how::failed) failures.push_back(next.code);
    };
    add(r);
    if (is_late) out.at = std::max(out.at, due);
    const auto second = [&](stop_at x) { return eval(n.children[1], r.at, x); };
    bool cut_short = r.end == how::stopped && !is_late;
    if (r.end == how::value) {
      const result rest = is_late ? either(due, s, second) : second(s);
      cut_short = rest.end == how::stopped && !is_late;
      add(rest);
    }
    if (!failures.empty() || !has_value || cut_short) return ends_in(std::move(out), failures);
    return out;
  }

  result close(const node& n, long t, stop_at s) {
    const bool never_run = s.came(t);  // a group that is stopping starts nothing
    result out = ends(how::value, n.number, t);
    out.exact = s.at != t;
    siblings crew{*this};
    crew.runs.reserve(4);
    bool failed = false, some_wait = false;
    for (std::size_t i = 1; i != n.children.size(); ++i) {
      if (never_run || failed) continue;
      some_wait |= n.waits_for_closing(i);
      if (n.waits_for_closing(i)) continue;
      const child_run& k = crew.begin(n.children[i], t, s);
      failed = k.over && k.r.end == how::failed;
    }
    out.waited = some_wait;
    const std::size_t body = crew.runs.size();
    order_counts_ |= failed;
    {
      const child_run& k = crew.begin(n.children[0], t, failed ? std::min(s, stop_at{t - 1, true}) : s);
      // Who has been told that the group closes goes on, in a stopped scope.
      if (!failed && k.over && k.r.end == how::failed && some_wait && n.closes_first()) out.exact = false;
      failed |= k.over && k.r.end == how::failed;
    }
    if (failed) {
      crew.stop_all(t, true);
      const auto failures = crew.join(out);
      return ends_in(std::move(out), failures);
    }

    const result ended = crew.runs[body].r;
    const long first = crew.first_failure();
    const long closes = n.closes_first() ? t : ended.end == how::value && ended.at <= first ? ended.at : never;
    if (!n.closes_first() && ended.waited && closes == first) out.exact = false;
    if (some_wait && closes <= s.at && closes != never) {
      if (s.at == closes || first == closes) out.exact = false;
      for (std::size_t i = 1; i != n.children.size(); ++i) {
        if (!n.waits_for_closing(i)) continue;
        crew.begin(n.children[i], closes, s).over = false;
        crew.runs.back().r.waited = true;
      }
    }
    bool all_at_once = true, is_cancelled = false;
    long last = t;
    for (const child_run& k : crew.runs) {
      last = std::max(last, k.r.at);
      all_at_once &= k.over;
    }
    if (closes != never && n.has_grace() && !all_at_once) {
      const long due = closes + n.grace(), nearest = std::min({crew.first_failure(), last, s.at});
      if (due == nearest) out.exact = false;
      is_cancelled = due <= nearest;
      if (is_cancelled) crew.stop_all(due, false);
    }
    crew.heed_failures();
    result mine = crew.runs[body].r;
    const auto failures = crew.join(out);
    if (!failures.empty()) return ends_in(std::move(out), failures);
    if (is_cancelled && mine.end != how::value) {
      if (s.at == out.at) out.exact = false;
      if (!s.came(out.at)) mine.end = how::value, mine.code = was_cancelled;
    }
    std::vector<std::size_t> children(crew.runs.size());
    for (std::size_t i = 0; i != children.size(); ++i) children[i] = i;
    bool cut_short = never_run ? n.children.size() > 1 : some_wait && crew.runs.size() < n.children.size();
    if (!is_cancelled) cut_short |= crew.cut_short(children, s, out);
    if (mine.end != how::value || cut_short) return ends_in(std::move(out), {});
    out.code = mix(out.code, mine.code);
    return out;
  }

  /// What `wait` gives to the body of its group; `done_` says which handles.
  result wait_for(const node& n, long t, stop_at s, const siblings& crew, bool never_run) {
    const auto count = static_cast<std::uint32_t>(n.children.size());
    if (never_run) return ends(how::value, count + count * was_cancelled, t);
    constexpr unsigned first_completed = 0;
    const bool for_first = n.condition() == first_completed;
    long enough = for_first ? never : t;
    bool some_over = false, all_over = true;
    for (const child_run& k : crew.runs) {
      enough = for_first ? std::min(enough, k.r.at) : std::max(enough, k.r.at);
      some_over |= k.over;
      all_over &= k.over;
    }
    const bool has_limit = n.has_limit();
    const bool at_once = all_over || (for_first && some_over) || (has_limit && n.seconds() == 0);
    const bool by_limit = !at_once && has_limit && t + n.seconds() <= enough;
    result r = ends(how::value, 0, at_once ? t : by_limit ? t + n.seconds() : enough, !at_once);
    done_.assign(crew.runs.size(), false);
    unsigned then = 0;
    bool all_stopped = true;
    for (std::size_t i = 0; i != crew.runs.size(); ++i) {
      const child_run& k = crew.runs[i];
      const bool is_then = !k.over && k.r.at == r.at;
      if (is_then) all_stopped &= k.r.end == how::stopped, ++then;
      if (!(at_once ? k.over : k.over || k.r.at < r.at || (is_then && !by_limit))) continue;
      done_[i] = true;
      r.code += 1 + (k.r.end == how::stopped ? was_cancelled : k.r.code);
    }
    order_counts_ |= at_once && (for_first || has_limit);
    if (at_once) return r;
    if (s.at <= r.at) {
      r.exact = s.at < r.at || (then != 0 && all_stopped && !by_limit);
      r.end = how::stopped, r.at = s.at;
    } else if (then != 0 && (by_limit || (for_first && then > 1))) {
      r.exact = false;
    }
    return r;
  }

  result stream(const node& n, long t, stop_at s) {
    result out = ends(how::value, n.number, t);
    out.code = mix(n.number, 0);
    if (n.children.empty()) return out;
    if (s.at == t) out.exact = false;
    if (s.came(t)) return ends_in(std::move(out), {});

    const std::size_t takes = std::min<std::size_t>(n.children.size(), n.takes());
    siblings tasks{*this};
    tasks.runs.reserve(n.children.size());
    std::vector<std::size_t> which;  // have ended, in their order
    std::size_t under_way = 0;
    long now = t;
    bool stopped = false;
    for (;;) {
      while (under_way < n.limit() && tasks.runs.size() != n.children.size()) {
        const child_run& k = tasks.begin(n.children[tasks.runs.size()], now, {});
        if (k.over)
          which.push_back(tasks.runs.size() - 1);
        else
          ++under_way;
      }
      if (which.size() >= takes || under_way == 0) {
        // Several that end at the last instant: which are taken, and which others begin, is up to their order.
        const auto then = std::count_if(tasks.runs.begin(), tasks.runs.end(),
                                        [&](const child_run& k) { return k.r.waited && k.r.at == now; });
        if (then > 1 && which.size() >= takes && takes != n.children.size()) out.exact = false;
        break;
      }
      long next = never;
      for (const child_run& k : tasks.runs)
        if (!k.over) next = std::min(next, k.r.at);
      if (s.at <= next) {
        if (s.at == next) out.exact = false;
        stopped = true;
        now = s.at;
        break;
      }
      now = next;
      out.waited = true;
      for (std::size_t i = 0; i != tasks.runs.size(); ++i) {
        child_run& k = tasks.runs[i];
        if (k.over || k.r.at != now) continue;
        k.over = true;
        --under_way;
        which.push_back(i);
      }
    }
    out.waited |= stopped;
    order_counts_ |= !out.waited && takes != n.children.size();
    tasks.stop_all(now, !out.waited);
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i != which.size() && i != takes; ++i) {
      const result& r = tasks.runs[which[i]].r;
      sum += mix(static_cast<std::uint32_t>(which[i]), r.end == how::stopped ? was_cancelled : r.code);
    }
    out.code = mix(n.number, sum);
    out.exact &= tasks.exact;
    for (const child_run& k : tasks.runs) {
      out = with(std::move(out), k.r);
      out.strays = std::max(out.strays, k.r.at);
      if (!k.over && k.r.end == how::failed) out.failures_of_strays.push_back(k.r.code);
    }
    out.at = now;
    if (stopped) out.end = how::stopped, out.code = 0;
    return out;
  }

  /// Jobs begin in their order, each when it has been accepted and a worker is free. Nothing stops them until whoever
  /// has the pool does, or goes.
  result pool(const node& n, long t, stop_at s) {
    result out = ends(how::value, n.number, t);
    if (s.at <= t) out.exact = false;  // of the tree, where no job runs any more, or of a scope, where they do?
    siblings jobs{*this};
    jobs.runs.reserve(4);
    const std::size_t first = n.what == kind::pool_beside;
    std::size_t count = n.children.size() - first, accepted = 0, busy = 0;
    bool hearing = false;  // one handle after the other is awaited; before them the last, if that was cancelled
    const auto begin_some = [&] {
      for (;;) {
        if (busy < n.workers() && jobs.runs.size() < accepted)
          busy += !jobs.begin(n.children[first + jobs.runs.size()], out.at, {}).over;
        else if (accepted != count && (busy < n.workers() || accepted - jobs.runs.size() < n.backlog()))
          ++accepted;
        else
          return;
      }
    };
    const auto next_end = [&] {
      long next = never;
      for (const child_run& k : jobs.runs)
        if (!k.over) next = std::min(next, k.r.at);
      return next;
    };
    const auto go_on_to = [&](long now) {
      out.at = now, out.waited = true;
      for (child_run& k : jobs.runs)
        if (!k.over && k.r.at == now) k.over = true, --busy;
      begin_some();
    };
    /// False if a stop comes first.
    const auto go_on_until = [&](auto enough) {
      while (!enough()) {
        const long next = next_end();
        if (s.at == next) out.exact = false;
        if (s.at <= next) return false;
        go_on_to(next);
      }
      return true;
    };
    const auto all_accepted = [&] { return accepted == count; };
    const auto idle = [&] { return busy == 0; };
    /// What else happens at this instant happens before or after what its owner does now, if he has waited. The end of
    /// one job may be what let him go on.
    const auto look_around = [&](std::ptrdiff_t least) {
      const auto is_now = [&](const child_run& k) { return k.r.waited && k.r.at == out.at; };
      if (out.waited && std::count_if(jobs.runs.begin(), jobs.runs.end(), is_now) > least) out.exact = false;
    };
    std::vector<std::uint32_t> failures;
    const auto join = [&] {
      out.exact &= jobs.exact;
      for (const child_run& k : jobs.runs) out = with(std::move(out), k.r);
      return std::move(out);
    };
    /// The pool goes: the tree is told what nobody has heard of, and what comes now.
    const auto drop = [&] {
      const bool hears_last = hearing && n.cancels_last() && jobs.runs.size() == n.children.size();
      hearing &= !hears_last || jobs.runs.back().over;
      for (const child_run& k : jobs.runs) {
        hearing &= k.over;
        const bool is_heard = hearing || (hears_last && &k == &jobs.runs.back());
        if (k.over && k.r.end == how::failed && !is_heard) failures.push_back(k.r.code);
      }
      if (!failures.empty()) out.failures_of_strays.push_back(group_of(failures));
      jobs.stop_all(out.at, !out.waited);
      for (const child_run& k : jobs.runs) {
        if (k.over) continue;
        out.strays = std::max(out.strays, k.r.at);
        if (k.r.end == how::failed) out.failures_of_strays.push_back(k.r.code);
      }
      return join();
    };
    const auto stop_all = [&] {
      out.at = std::max(s.at, out.at), out.waited = true;
      out.end = how::stopped, out.code = 0;
      return drop();
    };

    begin_some();
    if (!go_on_until(all_accepted)) return stop_all();
    if (n.what == kind::pool_beside) {
      const bool is_let_in = out.waited;
      const result mine = eval(n.children[0], out.at, s);
      while (next_end() < mine.at) go_on_to(next_end());
      // It may go on after a stop, under a shield. One of the tree has come to the jobs then, one of a scope has not.
      if (mine.waited && s.at <= mine.at && (s.at != mine.at || mine.end != how::stopped)) out.exact = false;
      out = then(std::move(out), mine);
      order_counts_ |= !mine.waited;
      look_around(is_let_in && !mine.waited ? 1 : 0);
      if (out.end != how::value || n.end_of_pool() == node::is_dropped) return drop();
      if (n.end_of_pool() == node::is_cancelled) {
        count = accepted = jobs.runs.size();
        jobs.stop_all(out.at, !out.waited);
      }
    }
    const std::size_t handles = count;
    hearing = n.what == kind::pool_handles;
    if (hearing && n.cancels_last()) {
      order_counts_ = true;
      look_around(1);
      if (jobs.runs.size() != count)
        accepted = --count;
      else
        jobs.stop(count - 1, out.at, !out.waited);
    }
    if (!go_on_until(idle)) return stop_all();
    auto code = static_cast<std::uint32_t>(n.children.size());
    for (std::size_t i = 0; i != handles && hearing; ++i) {
      const bool is_cancelled = i >= jobs.runs.size() || jobs.runs[i].r.end == how::stopped;
      code = mix(code, is_cancelled ? was_cancelled : jobs.runs[i].r.code);
    }
    if (n.what != kind::pool_beside) out.code = mix(out.code, code);
    for (const child_run& k : jobs.runs)
      if (k.r.end == how::failed && !hearing) failures.push_back(k.r.code);
    if (!failures.empty()) out.end = how::failed, out.code = group_of(failures);
    return join();
  }

  /// A gather whose other children begin when the first has its value.
  result after_the_first(const node& n, long t, stop_at s) {
    const result first = eval(n.children[0], t, s);
    if (!first.waited) return group(n, t, s);
    siblings crew{*this};
    crew.runs.reserve(n.children.size());
    result out = ends(how::value, n.number, t, true);
    crew.begin(n.children[0], t, s);
    if (first.end == how::value && first.at <= s.at) {
      if (first.at == s.at) out.exact = false;
      for (std::size_t i = 1; i != n.children.size(); ++i) {
        const child_run& k = crew.begin(n.children[i], first.at, s);
        if (k.r.end == how::failed && k.r.at == first.at) out.exact = false;  // before others have begun, or after
      }
      crew.heed_failures();
    }
    const auto failures = crew.join(out);
    bool all = crew.runs.size() == n.children.size();
    for (const child_run& k : crew.runs) {
      all &= k.r.end == how::value;
      out.code = mix(out.code, k.r.code);
    }
    return all ? out : ends_in(std::move(out), failures);
  }

  static constexpr long never = std::numeric_limits<long>::max();
  unsigned steps_ = 0;
  bool order_counts_ = false;  // something depends on what ends at once, and not when it is put off
  std::vector<bool> done_;     // by wait_for: which children `wait` gave as done
};

}  // namespace fuzz
