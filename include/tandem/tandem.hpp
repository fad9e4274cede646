// tandem/tandem.hpp: all of tandem.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cached.hpp, cancel.hpp, clock.hpp, event.hpp, exceptions.hpp, gather.hpp, generator.hpp, lru_cache.hpp, metrics.hpp, mutex.hpp, priority_scheduler.hpp, queue.hpp, race.hpp, rate_limiter.hpp, resource_pool.hpp, run.hpp, semaphore.hpp, spawn.hpp, streams.hpp, task.hpp, task_group.hpp, task_handle.hpp, threads.hpp, use_task.hpp, wait.hpp, worker_pool.hpp, detail/alarm.hpp, detail/await_tree.hpp, detail/beside.hpp, detail/cache_load.hpp, detail/failures.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/holder.hpp, detail/intrusive_list.hpp, detail/jobs.hpp, detail/loop.hpp, detail/lru_table.hpp, detail/one_loop.hpp, detail/priority.hpp, detail/random.hpp, detail/result.hpp, detail/waiting.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "cached.hpp"
#include "cancel.hpp"
#include "clock.hpp"
#include "event.hpp"
#include "exceptions.hpp"
#include "gather.hpp"
#include "generator.hpp"
#include "lru_cache.hpp"
#include "metrics.hpp"
#include "mutex.hpp"
#include "priority_scheduler.hpp"
#include "queue.hpp"
#include "race.hpp"
#include "rate_limiter.hpp"
#include "resource_pool.hpp"
#include "run.hpp"
#include "semaphore.hpp"
#include "spawn.hpp"
#include "streams.hpp"
#include "task.hpp"
#include "task_group.hpp"
#include "task_handle.hpp"
#include "threads.hpp"
#include "use_task.hpp"
#include "wait.hpp"
#include "worker_pool.hpp"
