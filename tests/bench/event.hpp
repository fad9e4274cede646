// What items.hpp needs of tandem and is not there yet: an event on the machine's leaf, and marks for what is left out.
#pragma once

#if __has_include(<tandem/semaphore.hpp>)
#include <tandem/semaphore.hpp>
#else
#define ITEMS_WITHOUT_SEMAPHORE
#endif
#if __has_include(<tandem/queue.hpp>)
#include <tandem/queue.hpp>
#else
#define ITEMS_WITHOUT_QUEUE
#endif
#if __has_include(<tandem/event.hpp>)
#include <tandem/event.hpp>
#else

#include <tandem/task.hpp>

namespace tandem {

class event {
 public:
  class waiter final : public detail::leaf {
   public:
    explicit waiter(event& e) noexcept : event_(&e) {}
    waiter(waiter&&) noexcept = default;
    const char* what() const noexcept override { return "event"; }
    bool await_ready() const noexcept { return event_->set_; }
    bool suspend(detail::frame& f) {
      if (park(f)) event_->waiters_.push_back(*this);
      return true;
    }
    void await_resume() noexcept { consume(); }

   private:
    event* event_;
  };
  waiter wait() noexcept { return waiter(*this); }
  void set() noexcept {
    set_ = true;
    while (!waiters_.empty()) waiters_.front().wake();
  }

 private:
  detail::intrusive_list<detail::leaf> waiters_;
  bool set_ = false;
};

}  // namespace tandem

#endif
