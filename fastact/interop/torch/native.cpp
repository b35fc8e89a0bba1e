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
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>
#include <torch/csrc/utils/object_ptr.h>
#include <unistd.h>

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
constexpr int64_t kShort = 2048;   // elements: letting others run costs more than it gives
const char* const kDtypes[] = {"float16", "bfloat16", "float32", "float64"};

const Word* state = nullptr;  // of the engine
Word target_slot = 0, cuda = 0;
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

struct Call {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject* name;
  PyObject* defaults;  // a tuple
  PyObject* prepare;   // (dtype, whether parameters are constants) -> addresses
  PyObject* general;   // (dy, kept, *parameters): the backward pass of any tensors
  Loop* loop;
  std::array<Domain, kParameters> domains;
  bool only_defaults, rows, keeps_output;
  Loops loops[4][2];
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
      !x._fw_grad(/*level=*/0).defined() && state[target_slot] != cuda;
}

bool suits(const Call* call, const Tensor& x) {
  if (!is_plain(x)) return false;
  return call->rows ? x.dim() > 0 && x.numel() > 0 && x.is_contiguous()
                    : x.is_non_overlapping_and_dense();
}

Tensor new_like(const Tensor& x) {
  if (x.is_contiguous()) return Tensor(at::detail::empty_cpu(x.sizes(), x.scalar_type()));
  return at::empty_like(x);
}

// PyTorch's own threads for a job of the engine's: two pools on the same processors disturb each
// other, because their threads wait actively. Not in a forked child, whose OpenMP would wait for
// threads that are gone. Returns whether the job is done.
Word run_on_torch(Word* job, Word threads) noexcept {
  if (getpid() != process) return 0;
  const Word total = job[1], grain = job[2], ranges = (total + grain - 1) / grain;
  const auto task = reinterpret_cast<void (*)(Word*, Word, Word)>(job[0]);
  try {
    // Compiled here, at::parallel_for would bring an OpenMP of this compiler's. An iterator over
    // a tensor that nobody reads or writes runs on PyTorch's.
    const Tensor index(at::detail::empty_cpu({ranges}, at::kByte));
    const char* base = static_cast<const char*>(index.const_data_ptr());
    auto iterator = at::TensorIterator::borrowing_nullary_op(index);
    iterator.for_each(
        [&](char** data, const int64_t*, int64_t count) {
          const Word first = data[0] - base;
          task(job, first * grain, std::min((first + count) * grain, total));
        },
        (ranges + threads - 1) / threads);
    return 1;
  } catch (...) {
    return 0;  // no memory for the above; nothing has been computed, or it will be again
  }
}

// The step of an operand along a tensor of this layout, in bytes; -1 if there is none.
Word step_of(const Tensor& operand, const Tensor& like) {
  if (operand.sizes() != like.sizes()) return -1;
  if (operand.strides() == like.strides()) return operand.element_size();
  for (const auto stride : operand.strides()) {
    if (stride != 0) return -1;
  }
  return 0;  // one element repeated, as the gradient of a sum is
}

// Tensors come by their addresses: a copy of one may need the interpreter.
void compute(
    const Call* call, void* data, std::initializer_list<const Tensor*> inputs,
    const Parameters& parameters, const Tensor& out) {
  constexpr size_t most = 3 + kParameters;
  char* args[most];
  Word steps[2 * most];
  double wide[kParameters];
  float narrow[kParameters];
  size_t k = 0;
  for (const Tensor* x : inputs) {
    args[k] = static_cast<char*>(const_cast<void*>(x->const_data_ptr()));
    steps[k++] = step_of(*x, out);
  }
  const bool is_double = out.scalar_type() == at::kDouble;
  for (size_t p = 0; p < parameters.count && !parameters.defaults; ++p) {
    wide[p] = parameters.values[p];
    narrow[p] = static_cast<float>(wide[p]);
    args[k] = is_double ? reinterpret_cast<char*>(wide + p) : reinterpret_cast<char*>(narrow + p);
    steps[k++] = 0;
  }
  args[k] = static_cast<char*>(out.mutable_data_ptr());
  steps[k++] = out.element_size();
  Word dimensions[2] = {out.numel(), 0};
  if (call->rows) {
    dimensions[1] = out.size(-1);
    dimensions[0] /= dimensions[1];
    for (size_t i = 0; i < k; ++i) {
      steps[k + i] = steps[i];
      steps[i] *= dimensions[1];
    }
  }
  if (dimensions[0] > 0) call->loop(args, dimensions, steps, data);
}

struct Backward : public Node {
  Call* call = nullptr;  // lives for good
  void* data = nullptr;
  SavedVariable kept;
  Parameters parameters;

  std::string name() const override {
    return std::string(PyUnicode_AsUTF8(call->name)) + "Backward";
  }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    kept.reset_data();
  }

  Tensor unpack() {
    std::lock_guard<std::mutex> lock(mutex_);
    return kept.unpack(call->keeps_output ? NodePointer(getptr()) : NodePointer());
  }

  variable_list apply(variable_list&& gradients) override {
    const Tensor& dy = gradients[0];
    if (!dy.defined()) return {Tensor()};
    const Tensor x = unpack();
    if (at::GradMode::is_enabled() || !is_plain(dy) || !suits(call, x)) return {general(dy, x)};
    const Tensor dx = new_like(x);
    const bool as_it_is = call->rows ? dy.is_contiguous() : step_of(dy, x) >= 0;
    const Tensor laid_out = as_it_is ? dy : at::empty_like(x).copy_(dy);
    compute(call, data, {&laid_out, &x}, parameters, dx);
    return {dx};
  }

  // The gradient itself may be differentiated, or anything else: as Python code does it.
  Tensor general(const Tensor& dy, const Tensor& x) const {
    WithPython held;
    THPObjectPtr given(PyTuple_New(2 + parameters.count));
    if (!given) raise_python();
    PyTuple_SET_ITEM(given.get(), 0, THPVariable_Wrap(dy));
    PyTuple_SET_ITEM(given.get(), 1, THPVariable_Wrap(x));
    for (size_t p = 0; p < parameters.count; ++p) {
      PyTuple_SET_ITEM(given.get(), 2 + p, PyFloat_FromDouble(parameters.values[p]));
    }
    if (PyErr_Occurred()) raise_python();
    THPObjectPtr made(PyObject_CallObject(call->general, given));
    if (!made) raise_python();
    TORCH_CHECK(THPVariable_Check(made.get()), "fastact: the backward pass gave no tensor");
    return THPVariable_Unpack(made.get());
  }

  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override {
    args.collect(reinterpret_cast<size_t>(call));
    args.collect(kept, call->keeps_output);
    for (size_t p = 0; p < parameters.count; ++p) args.collect(parameters.values[p]);
  }

  variable_list apply_with_saved(
      const variable_list& gradients, torch::dynamo::autograd::SwapSavedVariables& saved) override {
    saved.before(kept);
    variable_list made{general(gradients[0], unpack())};
    saved.after(kept);
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

PyObject* vectorcall(PyObject* self, PyObject* const* args, size_t flags, PyObject* names) {
  HANDLE_TH_ERRORS
  Call* call = reinterpret_cast<Call*>(self);
  const Py_ssize_t count = PyTuple_GET_SIZE(call->defaults) + 1;
  if (PyVectorcall_NARGS(flags) != count + call->rows || names) {
    return PyErr_Format(PyExc_TypeError, "%U: wrong number of arguments", call->name);
  }
  if (!THPVariable_CheckExact(args[0])) Py_RETURN_NONE;
  const Tensor& x = THPVariable_Unpack(args[0]);
  const int dtype = dtype_index(x.scalar_type());
  Parameters parameters;
  if (dtype < 0 || !suits(call, x)) Py_RETURN_NONE;
  if (call->rows) {
    if (!PyLong_CheckExact(args[1])) Py_RETURN_NONE;
    int overflow;
    const long dim = PyLong_AsLongAndOverflow(args[1], &overflow);
    if (overflow || (dim != -1 && dim != x.dim() - 1)) Py_RETURN_NONE;
  } else if (!read_parameters(call, args + 1, dtype < 3, parameters)) {
    Py_RETURN_NONE;
  }
  const Loops& loops = loops_of(call, dtype, parameters.defaults);
  Tensor y = new_like(x);
  if (y.numel() < kShort) {
    compute(call, loops.forward, {&x}, parameters, y);
  } else {
    WithoutPython others;
    compute(call, loops.forward, {&x}, parameters, y);
  }
  if (torch::autograd::compute_requires_grad(x)) {
    auto node = New<NodePointer>::node();
    node->set_next_edges(torch::autograd::collect_next_edges(x));
    node->call = call;
    node->data = loops.backward;
    node->parameters = parameters;
    torch::autograd::set_history(y, node);
    node->kept = SavedVariable(call->keeps_output ? y : x, call->keeps_output);
  }
  return THPVariable_Wrap(std::move(y));
  END_HANDLE_TH_ERRORS
}

PyTypeObject CallType = {PyVarObject_HEAD_INIT(nullptr, 0)};

// call(name, defaults, domains or None, rows, keeps_output, prepare, general)
PyObject* new_call(PyObject*, PyObject* args) {
  PyObject *name, *defaults, *domains, *prepare, *general;
  int rows, keeps_output;
  if (!PyArg_ParseTuple(args, "UO!OppOO", &name, &PyTuple_Type, &defaults, &domains, &rows,
                        &keeps_output, &prepare, &general)) {
    return nullptr;
  }
  const Py_ssize_t count = PyTuple_GET_SIZE(defaults);
  if (count > static_cast<Py_ssize_t>(kParameters)) {
    return PyErr_Format(PyExc_ValueError, "%U: more than %zu parameters", name, kParameters);
  }
  Call* call = PyObject_New(Call, &CallType);
  if (!call) return nullptr;
  call->vectorcall = vectorcall;
  call->loop = nullptr;
  call->only_defaults = domains == Py_None;
  call->rows = rows;
  call->keeps_output = keeps_output;
  for (auto& of_dtype : call->loops) of_dtype[0] = of_dtype[1] = Loops();
  for (Py_ssize_t p = 0; p < count && !call->only_defaults; ++p) {
    call->domains[p] = static_cast<Domain>(PyLong_AsLong(PyTuple_GetItem(domains, p)));
  }
  call->name = Py_NewRef(name);
  call->defaults = Py_NewRef(defaults);
  call->prepare = Py_NewRef(prepare);
  call->general = Py_NewRef(general);
  Py_INCREF(call);  // nodes of graphs hold it without counting
  return PyErr_Occurred() ? nullptr : reinterpret_cast<PyObject*>(call);
}

// connect(address of the engine's state, slot of the target, its value "cuda") -> the pool
PyObject* connect(PyObject*, PyObject* args) {
  unsigned long long address;
  Py_ssize_t slot, value;
  if (!PyArg_ParseTuple(args, "Knn", &address, &slot, &value)) return nullptr;
  state = reinterpret_cast<const Word*>(address);
  target_slot = slot;
  cuda = value;
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
