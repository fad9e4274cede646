// expect: a task awaits asio::awaitable<T> with the executor type that Asio gives it by default
#include <tandem/use_task.hpp>
#include <tandem/task.hpp>

#if defined(FIXED)
tandem::asio::awaitable<int> other();
#else
tandem::asio::awaitable<int, tandem::asio::io_context::executor_type> other();
#endif

tandem::task<> f() { co_await other(); }
