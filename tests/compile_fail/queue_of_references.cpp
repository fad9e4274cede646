// expect: a queue holds objects: no references, no const
#include <tandem/queue.hpp>

#include <functional>

#if defined(FIXED)
tandem::queue<std::reference_wrapper<int>> numbers;
#else
tandem::queue<int&> numbers;
#endif
