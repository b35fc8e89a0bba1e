// fastact's ops on plain CPU tensors, with no Python between PyTorch and the compiled loops.
//
// `Call` is a function of one op. It computes where a tensor is dense, on the CPU, and nothing but
// autograd watches it; for everything else it returns None, and its caller goes the general way.
// Nothing here knows an op: names, loops and parameters come from fastact/interop/torch/native.py.
#include <Python.h>

#include <ATen/EmptyTensor.h>
#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/item.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/unsqueeze.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>
#include <torch/csrc/utils/object_ptr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace {

using at::Tensor;
using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using NodePointer = std::decay_t<decltype(torch::autograd::Edge::function)>;
using Word = intptr_t;
using Loop = void(char** args, Word* dimensions, Word* steps, void* data);  // NumPy's inner loop

constexpr size_t kParameters = 4;  // no op has more
constexpr size_t kTensors = 2;
constexpr size_t kOperands = 8;    // of a loop
constexpr int64_t kShort = 2048;   // elements: letting others run costs more than it gives
constexpr Word kShared = 1 << 15;  // elements from which rows are shared among threads
const char* const kDtypes[] = {"float16", "bfloat16", "float32", "float64"};

const Word* state = nullptr;  // of the engine
struct {  // slots of the state, values of the target, the slot of a row loop's operands
  Py_ssize_t target, threads, serial, cuda, along;
} numbers;
pid_t process = 0;  // that loaded this

// An object that calls Python owns the interpreter while it lives; one that computes lets it go.
struct WithPython {
  PyGILState_STATE held = PyGILState_Ensure();
  ~WithPython() { PyGILState_Release(held); }
};
struct WithoutPython {
  PyThreadState* thread = PyEval_SaveThread();
  // At exit Python ends the other threads here, by unwinding them.
  ~WithoutPython() noexcept(false) { PyEval_RestoreThread(thread); }
};

[[noreturn]] void raise_python() {
  python_error error;
  error.persist();
  throw std::move(error);
}

// The numbers of a call: the constants of the loop, or operands of their own.
struct Parameters {
  std::array<double, kParameters> values;
  size_t count = 0;
  bool defaults = true;
};

struct Loops {
  bool ready = false;
  void *forward = nullptr, *backward = nullptr;  // the data of the loops
};

enum Domain { kFinite, kNonnegative, kPositive };

// What the loop runs over: elements; elements, where the last axis of one tensor holds two
// operands side by side; rows along an axis; or rows of logits, with a label for each.
enum Kind { kElements, kHalves, kRows, kLoss };

struct Call {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject* name;
  PyObject* defaults;  // a tuple
  PyObject* prepare;   // (dtype, whether parameters are constants) -> addresses
  PyObject* general;   // (dy, *kept, *numbers): the backward pass of any tensors
  PyObject* plain;     // the same for plain ones, where it is no loop alone; or None
  Loop* loop;
  std::array<Domain, kParameters> domains;
  int kind;
  Py_ssize_t tensors;
  int summed;  // the result of the loop that is summed to the second tensor's shape, or -1
  bool only_defaults, keeps_output, reduces;
  Loops loops[4][2];

  bool has_axis() const { return kind != kElements; }
};

int dtype_index(at::ScalarType type) {
  switch (type) {
    case at::kHalf: return 0;
    case at::kBFloat16: return 1;
    case at::kFloat: return 2;
    case at::kDouble: return 3;
    default: return -1;
  }
}

// What the dispatcher would find: no subclass, mode, transform, other device or layout. Autocast
// leaves these ops alone.
bool is_plain(const Tensor& x) {
  static const c10::DispatchKeySet plain({
      c10::DispatchKey::CPU,
      c10::DispatchKey::AutogradCPU,
      c10::DispatchKey::ADInplaceOrView,
      c10::DispatchKey::BackendSelect,
      c10::DispatchKey::AutocastCPU,
  });
  const auto local = c10::impl::tls_local_dispatch_key_set();
  return plain.has_all((x.key_set() | local.included_) - local.excluded_) &&
      !x._fw_grad(/*level=*/0).defined() && state[numbers.target] != numbers.cuda;
}

bool suits(const Call* call, const Tensor& x) {
  if (!is_plain(x)) return false;
  return call->has_axis() ? x.dim() > 0 && x.numel() > 0 && x.is_contiguous()
                          : x.is_non_overlapping_and_dense();
}

// Whether two tensors have their elements in the same places; the stride of an axis of one index
// says nothing.
bool alike(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  for (int64_t k = 0; k < a.dim(); ++k) {
    if (a.size(k) > 1 && a.stride(k) != b.stride(k)) return false;
  }
  return true;
}

// Whether a second tensor meets the first as it is: of its layout, or one number, or one for each
// entry of the last axis.
bool meets(const Tensor& x, const Tensor& other) {
  if (!is_plain(other) || other.scalar_type() != x.scalar_type()) return false;
  if (alike(x, other)) return true;
  if (other.numel() == 1) return other.dim() <= x.dim();
  return other.dim() == 1 && x.dim() > 1 && other.size(0) == x.size(-1) &&
      other.is_contiguous() && x.is_contiguous() && x.numel() > 0;
}

bool meet(const Call* call, const Tensor* tensors) {
  return suits(call, tensors[0]) && (call->tensors == 1 || meets(tensors[0], tensors[1]));
}

Tensor new_like(const Tensor& x) {
  if (x.is_contiguous()) return Tensor(at::detail::empty_cpu(x.sizes(), x.scalar_type()));
  return at::empty_like(x);
}

// Calls f(first, last) for ranges of [0, count) on PyTorch's threads.
template <class F>
void in_ranges(Word count, Word threads, const F& f) {
  // Compiled here, at::parallel_for would bring an OpenMP of this compiler's. An iterator over
  // a tensor that nobody reads or writes runs on PyTorch's.
  const Tensor index(at::detail::empty_cpu({count}, at::kByte));
  const char* base = static_cast<const char*>(index.const_data_ptr());
  auto iterator = at::TensorIterator::borrowing_nullary_op(index);
  iterator.for_each(
      [&](char** data, const int64_t*, int64_t size) {
        const Word first = data[0] - base;
        f(first, first + size);
      },
      (count + threads - 1) / threads);
}

// PyTorch's own threads for a job of the engine's: two pools on the same processors disturb each
// other, because their threads wait actively. Not in a forked child, whose OpenMP would wait for
// threads that are gone. Returns whether the job is done.
Word run_on_torch(Word* job, Word threads) noexcept {
  if (getpid() != process) return 0;
  const Word total = job[1], grain = job[2], ranges = (total + grain - 1) / grain;
  const auto task = reinterpret_cast<void (*)(Word*, Word, Word)>(job[0]);
  try {
    in_ranges(ranges, threads, [&](Word first, Word last) {
      task(job, first * grain, std::min(last * grain, total));
    });
    return 1;
  } catch (...) {
    return 0;  // no memory for the above; nothing has been computed, or it will be again
  }
}

// The step of an operand along a tensor of this layout, in bytes; -1 if there is none.
Word step_of(const Tensor& operand, const Tensor& like) {
  if (operand.sizes() != like.sizes()) return -1;
  if (alike(operand, like)) return operand.element_size();
  for (int64_t k = 0; k < operand.dim(); ++k) {
    if (operand.size(k) > 1 && operand.stride(k) != 0) return -1;
  }
  return 0;  // one element repeated, as the gradient of a sum is
}

// The operands of a loop: where each begins, its step, and that to the next row.
struct Operands {
  char* base[kOperands];
  Word step[kOperands], outer[kOperands];
  size_t count = 0;

  void add(char* at, Word by, Word next = 0) {
    base[count] = at;
    step[count] = by;
    outer[count++] = next;
  }
};

char* address(const Tensor* x) { return static_cast<char*>(const_cast<void*>(x->const_data_ptr())); }

// Runs a loop over elements once for each row.
void run_elements(const Call* call, void* data, const Operands& given, Word rows, Word length) {
  const auto run = [&](Word first, Word last) {
    Operands own = given;
    for (size_t k = 0; k < own.count; ++k) own.base[k] += first * own.outer[k];
    for (Word row = first; row < last; ++row) {
      char* args[kOperands];
      Word dimensions[1] = {length};
      std::copy_n(own.base, own.count, args);
      call->loop(args, dimensions, own.step, data);
      for (size_t k = 0; k < own.count; ++k) own.base[k] += own.outer[k];
    }
  };
  const Word threads = state[numbers.threads];
  const bool share = rows > 1 && length < kShared && rows * length >= kShared && threads > 1 &&
      state[numbers.target] != numbers.serial && getpid() == process;
  if (share) {
    in_ranges(rows, threads, run);
  } else {
    run(0, rows);
  }
}

using Pointers = std::initializer_list<const Tensor*>;

// Tensors come by their addresses: a copy of one may need the interpreter. Those without one are
// left out.
void compute_elements(
    const Call* call, void* data, Pointers inputs, const Parameters& parameters, Pointers outs) {
  const Tensor& like = **outs.begin();
  const Word item = like.element_size();
  Word rows = 1, length = like.numel();
  if (length == 0) return;
  for (const Tensor* x : inputs) {
    if (x && !alike(*x, like) && x->numel() > 1 && x->dim() == 1 && call->tensors > 1) {
      length = x->numel();
      rows = like.numel() / length;
    }
  }
  if (call->kind == kHalves) {  // y and dy have half the axis, x and dx all of it
    Word whole = 0;
    for (const auto& group : {inputs, outs}) {
      for (const Tensor* x : group) {
        if (x) whole = std::max<Word>(whole, x->size(-1));
      }
    }
    rows = like.numel() / like.size(-1);
    length = whole / 2;
  }
  Operands operands;
  const auto add = [&](const Tensor* x) {
    if (!x) return;
    if (call->kind == kHalves) {
      const Word own = x->size(-1);
      for (Word at = 0; at < own; at += length) {
        operands.add(address(x) + at * item, item, own * item);
      }
    } else if (alike(*x, like) || x->dim() == like.dim() || x->numel() == 1) {
      const Word step = step_of(*x, like);
      const Word by = step < 0 ? 0 : step;  // one number, of fewer axes
      operands.add(address(x), by, by * length);
    } else {
      operands.add(address(x), item);  // one for each entry of the last axis
    }
  };
  for (const Tensor* x : inputs) add(x);
  double wide[kParameters];
  float narrow[kParameters];
  const bool is_double = like.scalar_type() == at::kDouble;
  for (size_t p = 0; p < parameters.count && !parameters.defaults; ++p) {
    wide[p] = parameters.values[p];
    narrow[p] = static_cast<float>(wide[p]);
    operands.add(
        is_double ? reinterpret_cast<char*>(wide + p) : reinterpret_cast<char*>(narrow + p), 0);
  }
  for (const Tensor* x : outs) add(x);
  run_elements(call, data, operands, rows, length);
}

// Rows along an axis of contiguous tensors; `like` has that axis.
void compute_rows(
    const Call* call, void* data, Pointers inputs, const Tensor& like, Word dim, const Tensor& out) {
  const Word item = like.element_size(), length = like.size(dim);
  Word before = 1, after = 1;
  for (Word k = 0; k < like.dim(); ++k) (k < dim ? before : after) *= k == dim ? 1 : like.size(k);
  const Word along = static_cast<const Word*>(data)[numbers.along];
  char* base[kOperands];
  size_t count = 0;
  for (const Tensor* x : inputs) base[count++] = address(x);
  base[count++] = static_cast<char*>(out.mutable_data_ptr());
  // the last axis needs one call, any other one for each index of the axes before it
  const Word calls = after == 1 ? 1 : before, rows = after == 1 ? before : after;
  Word steps[2 * kOperands];
  size_t inner = count;
  for (size_t k = 0; k < count; ++k) {
    const bool is_row = along >> k & 1;
    steps[k] = after == 1 && is_row ? length * item : item;
    if (is_row) steps[inner++] = after * item;
  }
  for (Word c = 0; c < calls; ++c) {
    char* args[kOperands];
    std::copy_n(base, count, args);
    Word dimensions[2] = {rows, length};
    call->loop(args, dimensions, steps, data);
    for (size_t k = 0; k < count; ++k) base[k] += (along >> k & 1 ? length : 1) * after * item;
  }
}

// Sums of partials to the shape of the second tensor, in the order of fastact/runtime/partials.py.
constexpr int64_t kSlab = 1 << 18;  // more entries are summed in several slabs
constexpr Word kChain = 32;

// In the order of NumPy's sum along a contiguous axis.
template <class T>
T pairwise(const T* x, Word n) {
  if (n > 128) {
    const Word half = n / 2 - n / 2 % 8;
    return pairwise(x, half) + pairwise(x + half, n - half);
  }
  T sum = 0;
  Word k = 0;
  if (n >= 8) {
    T r[8];
    std::copy_n(x, 8, r);
    for (k = 8; k < n - n % 8; k += 8) {
      for (Word j = 0; j < 8; ++j) r[j] += x[k + j];
    }
    sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  }
  for (; k < n; ++k) sum += x[k];
  return sum;
}

template <class T>
void add_up(const Tensor& partials, const Tensor& sums) {
  const T* x = partials.const_data_ptr<T>();
  T* result = sums.mutable_data_ptr<T>();
  const Word columns = sums.numel(), rows = partials.numel() / columns;
  if (columns == 1) {
    *result = pairwise(x, rows);
    return;
  }
  std::vector<double> total(columns);
  std::vector<T> chain(columns);
  for (Word first = 0; first < rows; first += kChain) {
    std::copy_n(x + first * columns, columns, chain.data());
    for (Word row = first + 1; row < std::min(first + kChain, rows); ++row) {
      for (Word k = 0; k < columns; ++k) chain[k] += x[row * columns + k];
    }
    for (Word k = 0; k < columns; ++k) total[k] += static_cast<double>(chain[k]);
  }
  std::copy_n(total.data(), columns, result);
}

// Whether that is done here; all else is for Python.
bool adds_up(const Tensor& x, const Tensor& other) {
  const auto type = x.scalar_type();
  if ((type != at::kFloat && type != at::kDouble) || !x.is_contiguous()) return false;
  for (const auto size : x.sizes()) {
    if (size < 2) return false;  // such an axis is not summed
  }
  return x.dim() > 0 && x.numel() <= kSlab && other.numel() < x.numel();
}

struct Backward : public Node {
  Call* call = nullptr;  // lives for good
  void* data = nullptr;
  std::array<SavedVariable, kTensors> kept;
  Parameters parameters;
  int64_t dim = -1;

  std::string name() const override {
    return std::string(PyUnicode_AsUTF8(call->name)) + "Backward";
  }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& one : kept) one.reset_data();
  }

  std::array<Tensor, kTensors> unpack() {
    std::lock_guard<std::mutex> lock(mutex_);
    std::array<Tensor, kTensors> found;
    for (Py_ssize_t k = 0; k < call->tensors; ++k) {
      found[k] = kept[k].unpack(call->keeps_output ? NodePointer(getptr()) : NodePointer());
    }
    return found;
  }

  variable_list apply(variable_list&& gradients) override {
    const Tensor& dy = gradients[0];
    if (!dy.defined()) return variable_list(call->tensors);
    const auto x = unpack();
    if (at::GradMode::is_enabled() || !is_plain(dy) || !meet(call, x.data())) {
      return in_python(call->general, dy, x);
    }
    const bool two = call->tensors == 2;
    const bool sums = call->summed >= 0;
    const bool here = sums ? adds_up(x[0], x[1]) : alike(x[0], x[1]);
    if (two && !here) return in_python(call->plain, dy, x);
    const Tensor dx = new_like(x[0]);
    if (call->has_axis()) {
      const Tensor laid_out = dy.is_contiguous() ? dy : dy.contiguous();
      if (call->kind == kRows) {
        compute_rows(call, data, {&laid_out, &x[0]}, x[0], dim, dx);
      } else {
        compute_elements(call, data, {&laid_out, &x[0]}, parameters, {&dx});
      }
      return {dx};
    }
    const Tensor laid_out = step_of(dy, x[0]) >= 0 ? dy : at::empty_like(x[0]).copy_(dy);
    if (!two) {
      compute_elements(call, data, {&laid_out, &x[0]}, parameters, {&dx});
      return {dx};
    }
    const bool one = sums && call->summed == 0;  // the loop has one result, which is also summed
    const Tensor other = one ? dx : new_like(x[0]);
    compute_elements(
        call, data, {&laid_out, &x[0], &x[1]}, parameters, {&dx, one ? nullptr : &other});
    if (!sums) return {dx, other};
    const Tensor total(at::detail::empty_cpu(x[1].sizes(), x[1].scalar_type()));
    if (total.scalar_type() == at::kDouble) {
      add_up<double>(other, total);
    } else {
      add_up<float>(other, total);
    }
    return {dx, total};
  }

  // The gradient itself may be differentiated, or anything else: as Python code does it.
  variable_list in_python(
      PyObject* function, const Tensor& dy, const std::array<Tensor, kTensors>& x) const {
    WithPython held;
    const Py_ssize_t first = 1 + call->tensors;
    const Py_ssize_t more = call->has_axis() ? 1 : parameters.count;
    THPObjectPtr given(PyTuple_New(first + more));
    if (!given) raise_python();
    PyTuple_SET_ITEM(given.get(), 0, THPVariable_Wrap(dy));
    for (Py_ssize_t k = 0; k < call->tensors; ++k) {
      PyTuple_SET_ITEM(given.get(), 1 + k, THPVariable_Wrap(x[k]));
    }
    for (Py_ssize_t p = 0; p < more; ++p) {
      PyTuple_SET_ITEM(given.get(), first + p, call->has_axis()
          ? PyLong_FromLongLong(dim) : PyFloat_FromDouble(parameters.values[p]));
    }
    if (PyErr_Occurred()) raise_python();
    THPObjectPtr made(PyObject_CallObject(function, given));
    if (!made) raise_python();
    variable_list found;
    const bool several = PyTuple_Check(made.get());
    const Py_ssize_t count = several ? PyTuple_GET_SIZE(made.get()) : 1;
    for (Py_ssize_t k = 0; k < count; ++k) {
      PyObject* one = several ? PyTuple_GET_ITEM(made.get(), k) : made.get();
      const bool is_tensor = THPVariable_Check(one);
      TORCH_CHECK(is_tensor || one == Py_None, "fastact: the backward pass gave no tensor");
      found.push_back(is_tensor ? THPVariable_Unpack(one) : Tensor());
    }
    return found;
  }

  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override {
    args.collect(reinterpret_cast<size_t>(call));
    for (Py_ssize_t k = 0; k < call->tensors; ++k) args.collect(kept[k], call->keeps_output);
    for (size_t p = 0; p < parameters.count; ++p) args.collect(parameters.values[p]);
    args.collect(dim);
  }

  variable_list apply_with_saved(
      const variable_list& gradients, torch::dynamo::autograd::SwapSavedVariables& saved) override {
    for (Py_ssize_t k = 0; k < call->tensors; ++k) saved.before(kept[k]);
    variable_list made = in_python(call->general, gradients[0], unpack());
    for (Py_ssize_t k = 0; k < call->tensors; ++k) saved.after(kept[k]);
    return made;
  }
};

// Nodes are counted in themselves since PyTorch 2.13, before that beside.
template <class Pointer, class Made = Backward>
struct New {
  static auto node() { return c10::make_intrusive<Made>(); }
};
template <class Made>
struct New<std::shared_ptr<Node>, Made> {
  static auto node() {
    return std::shared_ptr<Made>(new Made(), [](Made* n) { deleteNode(n); });
  }
};

// The numbers of a call, if they are ones that need no second look: otherwise NumPy's rules and
// the words of the errors are the general way's.
bool read_parameters(const Call* call, PyObject* const* given, bool single, Parameters& found) {
  found.count = PyTuple_GET_SIZE(call->defaults);
  for (size_t p = 0; p < found.count; ++p) {
    found.defaults = found.defaults && given[p] == PyTuple_GET_ITEM(call->defaults, p);
  }
  for (size_t p = 0; p < found.count; ++p) {
    if (!PyFloat_CheckExact(given[p]) && !PyLong_CheckExact(given[p])) return false;
    const double value = PyFloat_AsDouble(given[p]);
    if (PyErr_Occurred()) {  // an integer too large for a double
      PyErr_Clear();
      return false;
    }
    found.values[p] = value;
    if (found.defaults) continue;
    if (call->only_defaults || !std::isfinite(single ? float(value) : value)) return false;
    if (call->domains[p] != kFinite && value < 0) return false;
    if (call->domains[p] == kPositive && value == 0) return false;
  }
  return true;
}

const Loops& loops_of(Call* call, int dtype, bool defaults) {
  Loops& loops = call->loops[dtype][defaults];
  if (!loops.ready) {  // found, or compiled, by Python; until then nobody else sees them
    THPObjectPtr made(PyObject_CallFunction(
        call->prepare, "sO", kDtypes[dtype], defaults ? Py_True : Py_False));
    unsigned long long loop = 0, forward = 0, backward = 0;
    if (!made || !PyArg_ParseTuple(made.get(), "KKK", &loop, &forward, &backward)) {
      throw python_error();
    }
    call->loop = reinterpret_cast<Loop*>(loop);
    loops = {true, reinterpret_cast<void*>(forward), reinterpret_cast<void*>(backward)};
  }
  return loops;
}

// The axis of a call, counted from the first; -1 if it is for the general way.
int64_t read_axis(const Call* call, PyObject* given, const Tensor& x) {
  if (!PyLong_CheckExact(given)) return -1;
  int overflow;
  const long dim = PyLong_AsLongAndOverflow(given, &overflow);
  if (overflow || dim < -x.dim() || dim >= x.dim()) return -1;
  const int64_t found = dim < 0 ? dim + x.dim() : dim;
  const bool halves = found == x.dim() - 1 && x.size(found) % 2 == 0;
  return call->kind != kHalves || halves ? found : -1;
}

Tensor new_result(const Call* call, const Tensor& x, int64_t dim) {
  if (call->kind != kHalves && !call->reduces) return new_like(x);
  c10::DimVector sizes(x.sizes());
  if (call->reduces) {
    sizes.erase(sizes.begin() + dim);
  } else {
    sizes[dim] /= 2;
  }
  return Tensor(at::detail::empty_cpu(sizes, x.scalar_type()));
}

PyObject* vectorcall(PyObject* self, PyObject* const* args, size_t flags, PyObject* names) {
  HANDLE_TH_ERRORS
  Call* call = reinterpret_cast<Call*>(self);
  const Py_ssize_t more = call->has_axis() ? 1 : PyTuple_GET_SIZE(call->defaults);
  if (PyVectorcall_NARGS(flags) != call->tensors + more || names) {
    return PyErr_Format(PyExc_TypeError, "%U: wrong number of arguments", call->name);
  }
  for (Py_ssize_t k = 0; k < call->tensors; ++k) {
    if (!THPVariable_CheckExact(args[k])) Py_RETURN_NONE;
  }
  const bool two = call->tensors == 2;
  const Tensor& x = THPVariable_Unpack(args[0]);
  const Tensor* const other = two ? &THPVariable_Unpack(args[1]) : nullptr;
  const int dtype = dtype_index(x.scalar_type());
  if (dtype < 0 || !suits(call, x) || (two && !meets(x, *other))) Py_RETURN_NONE;
  Parameters parameters;
  int64_t dim = -1;
  if (call->has_axis()) {
    dim = read_axis(call, args[1], x);
    if (dim < 0) Py_RETURN_NONE;
  } else if (!read_parameters(call, args + call->tensors, dtype < 3, parameters)) {
    Py_RETURN_NONE;
  }
  const Loops& loops = loops_of(call, dtype, parameters.defaults);
  Tensor y = new_result(call, x, dim);
  const auto compute = [&] {
    if (call->kind == kRows) {
      compute_rows(call, loops.forward, {&x}, x, dim, y);
    } else {
      compute_elements(call, loops.forward, {&x, other}, parameters, {&y});
    }
  };
  if (x.numel() < kShort) {
    compute();
  } else {
    WithoutPython others;
    compute();
  }
  const bool recording = two ? torch::autograd::compute_requires_grad(x, *other)
                             : torch::autograd::compute_requires_grad(x);
  if (recording) {
    auto node = New<NodePointer>::node();
    node->set_next_edges(
        two ? torch::autograd::collect_next_edges(x, *other)
            : torch::autograd::collect_next_edges(x));
    node->call = call;
    node->data = loops.backward;
    node->parameters = parameters;
    node->dim = dim;
    torch::autograd::set_history(y, node);
    node->kept[0] = SavedVariable(call->keeps_output ? y : x, call->keeps_output);
    if (two) node->kept[1] = SavedVariable(*other, false);
  }
  return THPVariable_Wrap(std::move(y));
  END_HANDLE_TH_ERRORS
}

// The backward pass of a loss, whose gradient is made with its value.
struct LossBackward : public Node {
  Call* call = nullptr;
  std::array<SavedVariable, 3> kept;  // the gradient, the logits, the labels
  int64_t dim = -1;
  std::string reduction;

  std::string name() const override {
    return std::string(PyUnicode_AsUTF8(call->name)) + "Backward";
  }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& one : kept) one.reset_data();
  }

  Tensor unpack(size_t k) {
    std::lock_guard<std::mutex> lock(mutex_);
    return kept[k].unpack();
  }

  variable_list apply(variable_list&& gradients) override {
    const Tensor& dloss = gradients[0];
    if (!dloss.defined()) return variable_list(1);
    if (at::GradMode::is_enabled()) return {in_python(dloss)};
    const Tensor dlogits = unpack(0);
    if (reduction == "none") return {at::mul(dlogits, dloss.unsqueeze(dim))};
    if (is_plain(dloss) && dloss.item<double>() == 1.0) return {dlogits};
    return {at::mul(dlogits, dloss)};
  }

  // The gradient itself may be differentiated: as Python code does it.
  Tensor in_python(const Tensor& dloss) {
    const Tensor logits = unpack(1), labels = unpack(2);
    WithPython held;
    THPObjectPtr given(Py_BuildValue(
        "NNNLs", THPVariable_Wrap(dloss), THPVariable_Wrap(logits), THPVariable_Wrap(labels),
        static_cast<long long>(dim), reduction.c_str()));
    if (!given) raise_python();
    THPObjectPtr made(PyObject_CallObject(call->general, given));
    if (!made) raise_python();
    TORCH_CHECK(THPVariable_Check(made.get()), "fastact: the backward pass gave no tensor");
    return THPVariable_Unpack(made.get());
  }

  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override {
    args.collect(reinterpret_cast<size_t>(call));
    for (const auto& one : kept) args.collect(one, false);
    args.collect(dim);
    args.collect(reduction);
  }

  variable_list apply_with_saved(
      const variable_list& gradients, torch::dynamo::autograd::SwapSavedVariables& saved) override {
    for (auto& one : kept) saved.before(one);
    variable_list made{in_python(gradients[0])};
    for (auto& one : kept) saved.after(one);
    return made;
  }
};

// A loss and, if there is a place for it, its gradient; each row's loss is a float64.
void compute_loss(
    const Call* call, void* data, const Tensor& x, const Tensor& labels, double factor,
    const Tensor* gradient, const Tensor& losses) {
  const Word item = x.element_size(), length = x.size(-1), eight = sizeof(double);
  char* args[5] = {address(&x), reinterpret_cast<char*>(&factor), address(&labels)};
  Word steps[7] = {length * item, 0, eight};
  size_t count = 3;
  if (gradient) {
    args[count] = address(gradient);
    steps[count++] = length * item;
  }
  args[count] = address(&losses);
  steps[count++] = eight;
  steps[count++] = item;  // along the rows, of logits and gradient
  if (gradient) steps[count++] = item;
  Word dimensions[2] = {x.numel() / length, length};
  call->loop(args, dimensions, steps, data);
}

// Whether labels name a class for each row, and each one there is.
bool names_classes(const Tensor& labels, const Tensor& x) {
  if (!is_plain(labels) || labels.scalar_type() != at::kLong || !labels.is_contiguous()) return false;
  if (labels.sizes() != x.sizes().slice(0, x.dim() - 1)) return false;
  const int64_t* ids = labels.const_data_ptr<int64_t>();
  const auto classes = static_cast<uint64_t>(x.size(-1));
  return std::all_of(ids, ids + labels.numel(), [&](int64_t id) {
    return static_cast<uint64_t>(id) < classes;
  });
}

template <class T>
Tensor reduced(const Tensor& losses, const Tensor& labels, bool each) {
  const double* found = losses.const_data_ptr<double>();
  const Word count = losses.numel();
  const c10::IntArrayRef sizes = each ? labels.sizes() : c10::IntArrayRef();
  Tensor value(at::detail::empty_cpu(sizes, c10::CppTypeToScalarType<T>::value));
  T* result = value.mutable_data_ptr<T>();
  if (each) {
    std::copy_n(found, count, result);
  } else {
    *result = pairwise(found, count);
  }
  return value;
}

// call(logits, labels, dim, weight, ignore_index, label_smoothing, reduction)
PyObject* loss_vectorcall(PyObject* self, PyObject* const* args, size_t flags, PyObject* names) {
  HANDLE_TH_ERRORS
  Call* call = reinterpret_cast<Call*>(self);
  if (PyVectorcall_NARGS(flags) != 7 || names) {
    return PyErr_Format(PyExc_TypeError, "%U: wrong number of arguments", call->name);
  }
  const bool usual = THPVariable_CheckExact(args[0]) && THPVariable_CheckExact(args[1]) &&
      args[3] == Py_None && args[4] == Py_None && PyFloat_CheckExact(args[5]) &&
      PyFloat_AS_DOUBLE(args[5]) == 0.0 && PyUnicode_CheckExact(args[6]);
  if (!usual) Py_RETURN_NONE;
  const Tensor& x = THPVariable_Unpack(args[0]);
  const Tensor& labels = THPVariable_Unpack(args[1]);
  const int dtype = dtype_index(x.scalar_type());
  if (dtype < 2 || !suits(call, x)) Py_RETURN_NONE;
  const int64_t dim = read_axis(call, args[2], x);
  if (dim != x.dim() - 1 || !names_classes(labels, x)) Py_RETURN_NONE;
  const char* text = PyUnicode_AsUTF8(args[6]);
  if (!text) throw python_error();
  const std::string reduction = text;
  const bool each = reduction == "none", mean = reduction == "mean";
  if (!each && !mean && reduction != "sum") Py_RETURN_NONE;
  const bool recording = torch::autograd::compute_requires_grad(x);
  const Loops& loops = loops_of(call, dtype, true);
  const Tensor losses(at::detail::empty_cpu({labels.numel()}, at::kDouble));
  const Tensor dlogits = recording ? new_like(x) : Tensor();
  const double factor = mean ? 1.0 / static_cast<double>(labels.numel()) : 1.0;
  const auto compute = [&] {
    if (recording) {
      compute_loss(call, loops.backward, x, labels, factor, &dlogits, losses);
    } else {
      compute_loss(call, loops.forward, x, labels, factor, nullptr, losses);
    }
  };
  if (x.numel() < kShort) {
    compute();
  } else {
    WithoutPython others;
    compute();
  }
  Tensor value = dtype == 3 ? reduced<double>(losses, labels, each)
                            : reduced<float>(losses, labels, each);
  if (recording) {
    auto node = New<NodePointer, LossBackward>::node();
    node->set_next_edges(torch::autograd::collect_next_edges(x));
    node->call = call;
    node->dim = dim;
    node->reduction = reduction;
    torch::autograd::set_history(value, node);
    node->kept = {
        SavedVariable(dlogits, false), SavedVariable(x, false), SavedVariable(labels, false)};
  }
  return THPVariable_Wrap(std::move(value));
  END_HANDLE_TH_ERRORS
}

PyTypeObject CallType = {PyVarObject_HEAD_INIT(nullptr, 0)};

// call(name, defaults, domains or None, kind, tensors, keeps_output, reduces, summed, prepare,
//      general, plain)
PyObject* new_call(PyObject*, PyObject* args) {
  PyObject *name, *defaults, *domains, *prepare, *general, *plain;
  int kind, keeps_output, reduces, summed;
  Py_ssize_t tensors;
  if (!PyArg_ParseTuple(args, "UO!OinppiOOO", &name, &PyTuple_Type, &defaults, &domains, &kind,
                        &tensors, &keeps_output, &reduces, &summed, &prepare, &general, &plain)) {
    return nullptr;
  }
  if (tensors < 1 || tensors > static_cast<Py_ssize_t>(kTensors)) {
    return PyErr_Format(PyExc_ValueError, "%U: more than %zu tensors", name, kTensors);
  }
  const Py_ssize_t count = PyTuple_GET_SIZE(defaults);
  if (count > static_cast<Py_ssize_t>(kParameters)) {
    return PyErr_Format(PyExc_ValueError, "%U: more than %zu parameters", name, kParameters);
  }
  Call* call = PyObject_New(Call, &CallType);
  if (!call) return nullptr;
  call->vectorcall = kind == kLoss ? loss_vectorcall : vectorcall;
  call->loop = nullptr;
  call->only_defaults = domains == Py_None;
  call->kind = kind;
  call->tensors = tensors;
  call->keeps_output = keeps_output;
  call->reduces = reduces;
  call->summed = summed;
  for (auto& of_dtype : call->loops) of_dtype[0] = of_dtype[1] = Loops();
  for (Py_ssize_t p = 0; p < count && !call->only_defaults; ++p) {
    call->domains[p] = static_cast<Domain>(PyLong_AsLong(PyTuple_GetItem(domains, p)));
  }
  call->name = Py_NewRef(name);
  call->defaults = Py_NewRef(defaults);
  call->prepare = Py_NewRef(prepare);
  call->general = Py_NewRef(general);
  call->plain = Py_NewRef(plain);
  Py_INCREF(call);  // nodes of graphs hold it without counting
  return PyErr_Occurred() ? nullptr : reinterpret_cast<PyObject*>(call);
}

// connect(address of the engine's state, numbers in the order of the struct) -> the pool
PyObject* connect(PyObject*, PyObject* args) {
  unsigned long long address;
  auto& n = numbers;
  if (!PyArg_ParseTuple(args, "Knnnnn", &address, &n.target, &n.threads, &n.serial, &n.cuda,
                        &n.along)) {
    return nullptr;
  }
  state = reinterpret_cast<const Word*>(address);
  process = getpid();
  return PyLong_FromVoidPtr(reinterpret_cast<void*>(&run_on_torch));
}

PyMethodDef methods[] = {
    {"call", new_call, METH_VARARGS, nullptr},
    {"connect", connect, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef definition = {PyModuleDef_HEAD_INIT, "fastact_torch_native", nullptr, -1, methods};

}  // namespace

PyMODINIT_FUNC PyInit_fastact_torch_native() {
  CallType.tp_name = "fastact_torch_native.Call";
  CallType.tp_basicsize = sizeof(Call);
  CallType.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL;
  CallType.tp_vectorcall_offset = offsetof(Call, vectorcall);
  CallType.tp_call = PyVectorcall_Call;
  if (PyType_Ready(&CallType) < 0) return nullptr;
  return PyModule_Create(&definition);
}
