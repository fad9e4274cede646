// expect: this type has no text: give it an operator<<, or make it a plain struct (an aggregate)
#include <tandem/reflect.hpp>

#include <string>
#include <vector>

class account {
 public:
  explicit account(int cents) : cents_(cents) {}
#if defined(FIXED)
  friend std::ostream& operator<<(std::ostream& out, const account& a) { return out << a.cents_; }
#endif
  int cents() const { return cents_; }

 private:
  int cents_;
};

struct bank {
  std::vector<account> accounts;
};

std::string text(const bank& b) { return tandem::describe(b); }
