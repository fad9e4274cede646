// tandem/detail/intrusive_list.hpp: a doubly linked list whose nodes are the waiting objects themselves.
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../asio.hpp"

static_assert(TANDEM_VERSION == 100, "tandem/detail/intrusive_list.hpp is of version 0.1.0, asio.hpp is not");

namespace tandem::inline TANDEM_CONFIG::detail {

/// A member of at most one list. It can leave without knowing which list that is, in its destructor too: this is what
/// makes a queued waiter safe to destroy.
class list_node {
 public:
  list_node() = default;
  list_node(const list_node&) = delete;
  list_node& operator=(const list_node&) = delete;
  ~list_node() { unlink(); }

  bool linked() const noexcept { return next_ != nullptr; }
  void unlink() noexcept {
    if (!next_) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    next_ = nullptr;
  }

 private:
  template <class T>
  friend class intrusive_list;
  list_node* next_ = nullptr;  // null outside a list
  list_node* prev_ = nullptr;
};

/// First in, first out; every operation is constant time and allocates nothing. Destroying the list unlinks its
/// members.
template <class T>
class intrusive_list {
 public:
  intrusive_list() noexcept { head_.prev_ = head_.next_ = &head_; }
  intrusive_list(const intrusive_list&) = delete;
  intrusive_list& operator=(const intrusive_list&) = delete;
  ~intrusive_list() {
    while (!empty()) pop_front();
    head_.next_ = nullptr;
  }

  bool empty() const noexcept { return head_.next_ == &head_; }
  T& front() const noexcept { return static_cast<T&>(*head_.next_); }
  T& back() const noexcept { return static_cast<T&>(*head_.prev_); }
  void push_back(T& t) noexcept { insert_before(head_, t); }
  /// Precondition: not empty.
  T& pop_front() noexcept {
    list_node& n = *head_.next_;
    head_.next_ = n.next_;
    n.next_->prev_ = &head_;
    n.next_ = nullptr;
    return static_cast<T&>(n);
  }
  /// The member after `t`, or null at the end.
  T* next(const T& t) const noexcept {
    list_node* n = static_cast<const list_node&>(t).next_;
    return n == &head_ ? nullptr : static_cast<T*>(n);
  }

 private:
  void insert_before(list_node& where, list_node& n) noexcept {
    n.prev_ = where.prev_;
    where.prev_->next_ = &n;  // between the two of n: g++ 12 would join them in a vector, which takes longer
    n.next_ = &where;
    where.prev_ = &n;
  }
  list_node head_;
};

}  // namespace tandem::inline TANDEM_CONFIG::detail
