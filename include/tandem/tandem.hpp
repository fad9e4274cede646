// tandem/tandem.hpp: all of tandem.
// Version 0.1.0. Needs C++20 and Asio 1.22.1 or later.
// needs: asio.hpp, cancel.hpp, clock.hpp, exceptions.hpp, gather.hpp, metrics.hpp, race.hpp, run.hpp, task.hpp, task_group.hpp, threads.hpp, use_task.hpp, wait.hpp, detail/await_tree.hpp, detail/frame.hpp, detail/frame_memory.hpp, detail/gcc12.hpp, detail/group.hpp, detail/intrusive_list.hpp, detail/loop.hpp, detail/result.hpp
// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "asio.hpp"
#include "cancel.hpp"
#include "clock.hpp"
#include "exceptions.hpp"
#include "gather.hpp"
#include "metrics.hpp"
#include "race.hpp"
#include "run.hpp"
#include "task.hpp"
#include "task_group.hpp"
#include "threads.hpp"
#include "use_task.hpp"
#include "wait.hpp"
