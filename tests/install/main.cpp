#include <tandem/run.hpp>

tandem::task<int> answer() { co_return 42; }

int main() { return tandem::run(answer()) == 42 ? 0 : 1; }
