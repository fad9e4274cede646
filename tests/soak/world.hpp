// tests/soak/world.hpp: the loops of a soak, what lives on each, and the operations that are its load.
#pragma once

#include "faults.hpp"
#include "ledger.hpp"

#include <tandem/tandem.hpp>

#include TANDEM_ASIO_HEADER(any_io_executor.hpp)
#include TANDEM_ASIO_HEADER(async_result.hpp)
#include TANDEM_ASIO_HEADER(cancellation_signal.hpp)
#include TANDEM_ASIO_HEADER(io_context.hpp)
#include TANDEM_ASIO_HEADER(strand.hpp)
#include TANDEM_ASIO_HEADER(thread_pool.hpp)

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace soak {

#if defined(TANDEM_BOOST_ASIO)
namespace asio = ::boost::asio;
#else
namespace asio = ::asio;
#endif
using tandem::task;
using tandem::use_task;

/// What a service answers when it fails.
struct failure final : std::exception {
  const char* what() const noexcept override { return "soak::failure"; }
};

struct options {
  double seconds = 3;
  bool faults = false;
  std::uint64_t seed = 1;
  std::size_t clients = 12;  // of each loop
  long fail_every = 397;     // allocations
};

struct place;
struct world;

/// One kind of load.
struct operation {
  const char* name;
  unsigned weight;
  task<> (*run)(place&, dice&);
  std::atomic<long> begun{0}, ended{0}, failed{0}, no_memory{0}, stopped{0};
  operation(const char* n, unsigned w, task<> (*r)(place&, dice&)) noexcept : name(n), weight(w), run(r) {}
};
using operations = std::vector<std::unique_ptr<operation>>;
void add_waits(operations&);
void add_scopes(operations&);
void add_services(operations&);
void add_threads(operations&);
void add_network(operations&);

/// Faults that were made, beside those of memory.
struct faults {
  std::atomic<long> clients_stopped{0}, trees_stopped{0}, limits_over{0};
  std::atomic<long> resets{0}, slow_peers{0}, half_lines{0}, silent_peers{0}, refused{0}, dropped{0}, closed{0},
      lost_exits{0}, lines_given_up{0};
};

/// A resource of a pool.
class thing {
 public:
  thing() : here_(ledger::resources), is_lent_(std::make_unique<bool>(false)) {}
  thing(thing&&) noexcept = default;
  bool& is_lent() noexcept { return *is_lent_; }

 private:
  held here_;
  std::unique_ptr<bool> is_lent_;
};

/// What the coroutines of one loop share; made and destroyed there.
struct tools {
  explicit tools(place&);
  static constexpr long most_permits = 4;
  tandem::semaphore permits{most_permits}, elastic{3};
  std::atomic<long> permits_out{0};
  tandem::mutex mutex;
  std::atomic<long> locks_out{0};
  tandem::event event;
  tandem::condition sold;
  long stock = 0;

  tandem::queue<item> items{4}, other_items{1}, ranges{3};
  tandem::queue<item> refuses{{2, tandem::overflow::refuse}};
  tandem::queue<item> drops_oldest{{2, tandem::overflow::drop_oldest}};
  tandem::queue<item> drops_newest{{2, tandem::overflow::drop_newest}};

  static constexpr std::size_t workers = 3;
  tandem::worker_pool pool{{.workers = workers, .backlog = 4}};
  std::atomic<long> jobs_running{0};
  tandem::priority_scheduler scheduler{{.slots = 2, .ageing = 5ms}};

  tandem::lru_cache<int, std::shared_ptr<const int>> cache;
  tandem::resource_pool<thing> things;
  tandem::rate_limiter limit{tandem::token_bucket{.rate = 20'000, .burst = 50}};
  tandem::keyed_rate_limiter<int> keyed{{.max_keys = 64}, tandem::gcra{.rate = 2'000, .burst = 20}};
  tandem::rate_limiter connects{tandem::token_bucket{.rate = 30, .burst = 10}};
  tandem::circuit_breaker breaker{{.window = 20, .min_calls = 10, .cool_down = 5ms}};
  tandem::error_manager errors;
  tandem::adaptive_concurrency<> control{{.initial = 4, .min = 1, .max = 20, .window = 20ms, .max_waiting = 8}};
  tandem::retry_budget budget{{.ratio = .5, .per_second = 100, .burst = 20}};
};

using strand = asio::strand<asio::io_context::executor_type>;

/// A loop, and those who load it.
struct place {
  place(world& w, const char* n) : all(w), name(n) {}
  world& all;
  const char* name;
  enum { of_context, of_strand, of_pool } kind = of_context;
  std::optional<soak::strand> strand{};
  /// Calls `f` with the executor, by its type: what is posted by an any_io_executor takes memory, and where a loop has
  /// none the program ends (docs/design/failures.md).
  template <class Function>
  auto at(Function f);
  asio::any_io_executor serial;  // of its loop; set before `is_ready`
  std::atomic<bool> is_ready{false};
  std::unique_ptr<tools> own;  // while its main coroutine runs

  /// A client: a tree of its own, which anybody may stop.
  struct client {
    asio::cancellation_signal stop;
    bool runs = false;
    std::uint64_t lives = 0;
  };
  std::vector<std::unique_ptr<client>> clients;
  std::size_t clients_running = 0;
  tandem::event client_ended;
};

struct world {
  explicit world(const options& o);
  ~world();

  const options& chosen;
  asio::io_context context;
  asio::thread_pool pool{1};
  std::vector<std::unique_ptr<place>> places;
  operations load;
  unsigned all_weights = 0;
  faults made;
  std::atomic<bool> ends{false};
  std::atomic<long> progress{0};

  static constexpr long most_shared = 5;
  tandem::concurrent_semaphore permits{most_shared};
  std::atomic<long> permits_out{0};
  /// The queue of now; it is closed now and then, and another takes its place.
  std::shared_ptr<tandem::concurrent_queue<item>> trade();
  void reopen_trade();
  tandem::concurrent_lru_cache<int, std::shared_ptr<const int>> cache{{.capacity = 50, .ttl = 20ms}};
  unsigned short port = 0;  // of the server

  place& any_place(dice& d) noexcept { return *places[d.below(places.size())]; }

 private:
  static std::shared_ptr<tandem::concurrent_queue<item>> new_trade();
  std::mutex mutex_;  // of what follows
  std::shared_ptr<tandem::concurrent_queue<item>> trade_;
};

template <class Function>
auto place::at(Function f) {
  switch (kind) {
    case of_strand:
      return f(*strand);
    case of_pool:
      return f(all.pool.get_executor());
    default:
      return f(all.context.get_executor());
  }
}

/// Listens on the loopback; ends when it is stopped, and its connections soon after.
task<> serve(world& w);
/// Opens the server's port; before `serve`.
void listen(world& w);

/// What the failure of an operation may be.
enum class verdict { as_expected, no_memory, wrong };
verdict judge(const std::exception_ptr& e) noexcept;
/// Says so if it is not as expected.
verdict note_failure(const std::exception_ptr& e, const char* of_what) noexcept;

/// `co_await spared<void(error_code, std::size_t)>(start)`: awaits the operation of Asio that `start(handler)` begins,
/// which does not fail for want of memory: what Asio notes for an operation on a strand that is an any_io_executor, it
/// allocates in a noexcept function. `start` must be there until then.
template <class Signature, class Start>
auto spared(Start& start) {
  const auto begins = [&start](auto&& handler) {
    const memory::spare spare;
    start(std::forward<decltype(handler)>(handler));
  };
  return asio::async_initiate<const tandem::use_task_t, Signature>(begins, use_task);
}

/// Nothing, a turn, or a short sleep.
inline task<> rest(std::uint64_t chance) {
  const held here(ledger::frames);
  dice d(chance);
  switch (d.below(4)) {
    case 0:
      break;
    case 1:
      co_await tandem::yield();
      break;
    default:
      co_await tandem::sleep_for(d.moment());
  }
}

/// A call of a service that takes its time and fails now and then.
inline task<int> service(std::uint64_t chance, unsigned percent_failing = 10) {
  const held here(ledger::frames), call(ledger::calls);
  dice d(chance);
  co_await rest(d.next());
  if (!d.chance(percent_failing)) co_return static_cast<int>(d.below(100));
  switch (d.below(3)) {
    case 0:
      throw tandem::system_error(tandem::error_code(tandem::asio::error::connection_reset));
    case 1:
      throw tandem::timed_out();
    default:
      throw failure();
  }
}

}  // namespace soak
