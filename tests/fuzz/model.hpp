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
  long strays = 0;      // the end of what only the tree waits for
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
  static result ends(how h, std::uint32_t code, long t, bool waited = false) { return {h, code, t, waited, true, 0, {}}; }

  /// A wait from `t` to `due`; `due == t` is one turn of the others.
  static result wait(long t, long due, std::uint32_t v, stop_at s) {
    const bool granted = due == t ? !s.came(t) : due <= s.at;
    return granted ? ends(how::value, v, due, true) : ends(how::stopped, 0, std::max(t, s.at), true);
  }
  /// A tree of its own, which starts in its turn.
  result in_its_turn(const node& n, long t, stop_at s) {
    result r = wait(t, t, 0, s);
    const stop_at outer = std::exchange(stop_of_tree_, s);
    if (r.end == how::value) r = eval(n, t, s);
    stop_of_tree_ = outer;
    r.waited = true;
    r.at = std::max(r.at, std::exchange(r.strays, 0));
    return r;
  }
  /// `r` with what happened beside it.
  static result with(result r, const result& other) {
    r.log.insert(r.log.end(), other.log.begin(), other.log.end());
    r.exact &= other.exact;
    r.strays = std::max(r.strays, other.strays);
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
    if (++steps_ > 20'000) return {how::value, 0, t, false, false, 0, {}};  // too long to tell
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
        r.exact &= !std::exchange(stopped_at_once_, false);
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
      case kind::task_group:
      case kind::cancel_group:
      case kind::cancel_handle:
      case kind::wait:
        return task_group(n, t, s);
      case kind::handles: {
        result r = s.came(t) ? ends(how::value, was_cancelled, t) : child(0, t, s);
        if (s.at == t || (r.waited && r.at == s.at)) r.exact = false;
        return then(here, r);
      }
      case kind::as_completed:
      case kind::as_completed_some:
        return stream(n, t, s);
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

  result race(const node& n, long t, stop_at s) {
    const bool has_leaf = n.what == kind::race_sleep;
    const long due = t + n.seconds();
    result out = ends(how::value, n.number, t);
    std::vector<child_run> runs;
    const auto decides = [&](const child_run& k) {
      return k.r.end == how::value || (k.r.end == how::failed && !n.is_first_successful());
    };
    const child_run* winner = nullptr;
    long now = t;
    runs.reserve(n.children.size() + 1);
    for (std::size_t i = 0; i != n.children.size() + has_leaf && !winner; ++i) {
      const bool is_leaf = has_leaf && i == 1;
      child_run k{is_leaf ? nullptr : &n.children[i - (has_leaf && i > 1)], t, {}, true};
      k.r = is_leaf ? wait(t, due, 0, s) : eval(*k.what, t, s);
      out.waited |= k.r.waited;
      k.over = !k.r.waited;
      runs.push_back(std::move(k));
      if (runs.back().over && decides(runs.back())) winner = &runs.back();
    }
    const bool at_once = winner;
    if (!winner) {
      for (const child_run& k : runs)
        if (decides(k) && (!winner || k.r.at < winner->r.at)) winner = &k;
      if (winner) now = winner->r.at;
      const bool leaf_wins = winner && has_leaf && due != t && decides(runs[1]) && runs[1].r.at == now;
      if (leaf_wins) winner = &runs[1];  // a timer that is due comes before whatever runs at that instant
      for (child_run& k : runs)
        if (winner && !leaf_wins && &k != winner && k.r.at == now && decides(k)) out.exact = false;
    }

    std::vector<std::uint32_t> failures;
    bool some_stopped = false;
    for (child_run& k : runs) {
      if (winner && &k != winner && !k.over && k.r.at >= now) {
        out.exact &= k.r.exact;
        const auto again = [&](stop_at x) { return k.what ? eval(*k.what, k.began, x) : wait(t, due, 0, x); };
        const bool before_all = at_once || (has_leaf && winner == &runs[1] && due != t);
        k.r = before_all ? again(std::min(s, stop_at{now, false})) : either(now, s, again);
      }
      out = with(std::move(out), k.r);
      out.at = std::max(out.at, k.r.at);
      some_stopped |= k.r.end == how::stopped;
      if (k.r.end == how::failed && !(winner && n.is_first_successful())) failures.push_back(k.r.code);
    }
    if (!failures.empty())
      out.end = how::failed, out.code = group_of(failures);
    else if (winner)
      out.code = mix(mix(out.code, static_cast<std::uint32_t>(winner - runs.data())), winner->r.code);
    else
      out.end = how::stopped, out.code = 0, out.waited = true;
    return out;
  }

  /// Everything that is built on a task group: a body, which awaits child 0 or 1 or waits for all, and the others.
  result task_group(const node& n, long t, stop_at s) {
    const bool cancels_later = n.what == kind::cancel_group;
    const bool waits = n.what == kind::wait;
    const std::size_t none = n.children.size();
    const std::size_t body = waits ? none : n.what == kind::cancel_handle ? 1 : 0;
    const bool never_run = s.came(t);  // those that are spawned
    result out = ends(how::value, n.number, t);
    out.exact = s.at != t;
    const auto background = [&](std::size_t i) { return n.what == kind::task_group && n.is_background(i); };

    // As if nothing failed, up to the first failure among those that end at once.
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i != none; ++i)
      if (i != body) order.push_back(i);
    if (body != none) order.push_back(body);
    std::vector<child_run> runs(none);
    bool failed = false;
    for (std::size_t i : order) {
      if (i != body && (never_run || failed)) continue;
      child_run& k = runs[i];
      k.what = &n.children[i], k.began = t;
      k.r = eval(*k.what, t, failed ? std::min(s, stop_at{t - 1, true}) : s);
      if (failed) stopped_at_once_ = true;
      k.over = !k.r.waited;
      failed |= k.over && k.r.end == how::failed;
    }
    const bool at_once = failed;
    if (waits && failed) stopped_at_once_ = true;

    const auto stop_from = [&](child_run& k, long at, bool now) {
      const auto again = [&](stop_at x) { return eval(*k.what, k.began, x); };
      out.exact &= k.r.exact;
      k.r = now ? again(std::min(s, stop_at{at, false})) : either(at, s, again);
    };
    const auto last_of_the_rest = [&] {
      long last = t;
      for (std::size_t i = 0; i != none; ++i)
        if (runs[i].what && !background(i)) last = std::max(last, runs[i].r.at);
      return last;
    };
    // The first failure, and what else stops everything.
    const auto first_failure = [&](bool with_background) {
      long first = std::numeric_limits<long>::max();
      for (std::size_t i = 0; i != none; ++i)
        if (runs[i].what && runs[i].r.end == how::failed && (with_background || !background(i)))
          first = std::min(first, runs[i].r.at);
      return first;
    };

    bool cancelled = false;
    long ends_with = t;
    if (!at_once) {
      // Background children end with the others.
      const long rest = last_of_the_rest();
      for (std::size_t i = 0; i != none; ++i)
        if (runs[i].what && background(i) && !runs[i].over && runs[i].r.at >= rest) {
          stop_from(runs[i], rest, false);
          if (runs[i].r.waited && rest == t) out.exact = false;
        }
    }
    long first = at_once ? t : first_failure(true);
    const auto stop_all = [&](long at, bool now, const child_run* but) {
      for (child_run& k : runs) {
        if (!k.what || k.over || k.r.at < at || &k == but) continue;
        const bool was_failure = k.r.end == how::failed && k.r.at == at;
        const result before = k.r;
        stop_from(k, at, now);
        if (was_failure && k.r != before) out.exact = false;
      }
    };

    // What the body does beside awaiting its child.
    result mine;
    if (waits) {
      mine = wait_of(n, t, s, runs, never_run, out);
    } else {
      mine = runs[body].r;
      mine.log.clear();
    }
    if (cancels_later) {
      const long due = t + n.seconds();
      if (!never_run && !at_once && due <= std::min({first, last_of_the_rest(), s.at})) {
        cancelled = true;
        if (due == first || due == last_of_the_rest() || due == s.at) out.exact = false;
        if (due == t) out.exact = false;
        stop_all(due, false, nullptr);
      }
    }
    if (at_once) {
      for (std::size_t i = 0; i != none; ++i)
        if (i != body && runs[i].what && !runs[i].over) stop_from(runs[i], t, true);
      if (body != none && runs[body].over && runs[body].r.end == how::failed && order.back() == body)
        for (std::size_t i = 0; i != none; ++i) ends_with = t;
    } else if (!cancelled) {
      const bool body_goes_on = mine.end == how::value && mine.at < first;
      const bool acts = body_goes_on && ((n.what == kind::task_group && n.cancels()) || n.what == kind::cancel_handle ||
                                         (waits && n.cancels()));
      if (mine.end == how::value && mine.at == first) out.exact = false;
      if (acts) {
        const bool at_launch = !mine.waited;
        if (n.what == kind::cancel_handle) {
          if (runs[0].what && !runs[0].over && runs[0].r.at >= mine.at) stop_from(runs[0], mine.at, at_launch);
        } else if (!waits || mine.waited || !at_launch) {
          stop_all(mine.at, at_launch, body == none ? nullptr : &runs[body]);
        } else {
          stop_all(mine.at, true, nullptr);
        }
        first = first_failure(true);
      }
      if (first != std::numeric_limits<long>::max()) {
        const child_run* only = nullptr;
        int firsts = 0;
        for (const child_run& k : runs)
          if (k.what && k.r.end == how::failed && k.r.at == first) only = &k, ++firsts;
        stop_all(first, false, firsts == 1 ? only : nullptr);
      }
      if (n.what == kind::cancel_handle && mine.end == how::value) {
        // The body waits for the handle.
        const long read = runs[0].what ? std::max(mine.at, runs[0].r.at) : mine.at;
        if (runs[0].what && runs[0].r.waited && runs[0].r.at >= mine.at && s.at >= mine.at && s.at <= read)
          out.exact &= s.at < read && s.at != mine.at, mine.end = how::stopped, mine.at = s.at;
        const std::uint32_t code = !runs[0].what || runs[0].r.end == how::stopped ? was_cancelled : runs[0].r.code;
        mine.code = mix(mine.code, code);
      }
    }

    std::vector<std::uint32_t> failures;
    for (const child_run& k : runs) {
      if (!k.what) continue;
      out = with(std::move(out), k.r);
      out.at = std::max(out.at, k.r.at);
      out.waited |= k.r.waited;
      if (k.r.end == how::failed) failures.push_back(k.r.code);
    }
    out.at = std::max(out.at, mine.at);
    if (body != none && n.what != kind::cancel_handle) mine.end = runs[body].r.end, mine.code = runs[body].r.code;
    if (!failures.empty())
      out.end = how::failed, out.code = group_of(failures);
    else if (mine.end == how::value)
      out.code = mix(out.code, mine.code);
    else if (cancelled && !s.came(out.at))
      out.end = how::failed, out.code = was_cancelled;
    else
      out.end = how::stopped, out.code = 0, out.waited = true;
    return out;
  }

  unsigned steps_ = 0;
  stop_at stop_of_tree_;
  bool stopped_at_once_ = false;  // something started in a scope that was stopped at that very instant
};

}  // namespace fuzz
