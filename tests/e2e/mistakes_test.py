#!/usr/bin/env python3
"""Mistakes of who writes a module for the first time: each message says what to write instead.

    mistakes_test.py --bin build/release/bin
"""

import sys

import cli
from cli import CliTest, kernelforge
from modules import BLOCK, pinned


class Mistakes(CliTest):
    """What a message says is all that its reader has."""

    def check(self, old, new, *says, arguments=("--run",)):
        self.assertIn(old, BLOCK)
        with self.subTest(new):
            text = BLOCK.replace(old, new)
            self.refused(2, "compile", "-", *arguments, text=text)
            line = kernelforge("compile", "-", *arguments, text=text).stderr
            for words in says:
                self.assertIn(words, line)

    def test_names(self):
        norm = "did you mean 'transformer.rms_norm'?"
        self.check("transformer.rms_norm", "transformer.rmsnorm", "5:8", norm)
        self.check("= transformer.rms_norm", "= rms_norm", "5:8", norm)
        self.check("transformer.rms_norm", "transfomer.rms_norm", norm)
        self.check("transformer.activation %y <gelu>", "transformer.gelu %y",
                   "write %y = transformer.activation %x <gelu> : !rows")
        self.check("func.func", "func", "did you mean 'func.func'?")
        self.check("<gelu>", "<swish>", "silu, gelu, gelu_tanh, relu")
        self.check("add %g,", "add %gg,", "nothing defines %gg; did you mean '%g'?")
        self.check("%x: !x", "%x: !xs", "'xs'", "define the alias before")
        self.check("func.func @block", "func.func @blok", "the module has blok",
                   "did you mean 'blok'?", arguments=("--run", "--function", "block"))
        self.check("%rows: index", "%rows: index", "@block has rows", "did you mean 'rows'?",
                   arguments=("--size", "row=3"))

    def test_attributes(self):
        self.check("epsilon", "epsilom", "no attribute 'epsilom'", "did you mean 'epsilon'?")
        self.check(" {epsilon = 1.0e-5}", "", "requires attribute 'epsilon'")
        self.check("1.0e-5", "1", "write a number with a point")
        self.check("bias(%b)", "bias(%b) {transposed}", "did you mean 'transpose'?")
        self.check("%w: tensor<96x64xf32>", '%w: tensor<96x64xf32> {transformer.weigth = "w"}',
                   "argument 3", "did you mean 'transformer.weight'?")
        self.check("%w: tensor<96x64xf32>", '%w: tensor<96x64xf32> {weight = "w"}',
                   "write them with their prefix", "transformer.weight")
        self.check("%w: tensor<96x64xf32>", "%w: tensor<96x64xf32> {transformer.weight}",
                   "must be a string: the name that it is bound by")
        self.check("= #transformer.size", "= #size", "of a dialect that is not known",
                   "#transformer.size")

    def test_types(self):
        self.check("tensor<64xf32>", "tensor<64xf64>", "a vector of parameters", "tensor<64xf64>")
        self.check("tensor<96x64xf32>", "tensor<64x96xf32>",
                   "weight takes rows of 96, but its input is 64 wide; a weight is [out, in]")
        self.check("tensor<96xf32>", "tensor<64xf32>", "bias has 64 elements, expected 96")
        self.check("%r: !h", "%r: !x", "'%r' expects different type", "?x96xf32", "?x64xf32")
        self.check("return %z : !h", "return %z : !x", "'%z' expects different type")
        self.check("tensor<96x64xf32>", "tensor<96x64x!transformer.quant<q4>>", "'q4'", "q4_0")
        self.check("tensor<96x64xf32>", "tensor<96x64xq4_0>", "!transformer.quant<")

    def test_rows(self):
        size = '%rows: index {transformer.size = #transformer.size<"rows", 1 to 512>}'
        for arguments in ((), ("--run",)):
            self.check(', #transformer.dims<"rows">', "", "dimension 0", "tensor<?x64xf32",
                       'write tensor<?x64xf32, #transformer.dims<"rows">>', size,
                       arguments=arguments)
            self.check('%rows: index {transformer.size = #transformer.size<"rows", 1 to 64>}, ', "",
                       "size 'rows', which the function does not take", size, arguments=arguments)
        self.check(' {transformer.size = #transformer.size<"rows", 1 to 64>}', "",
                   "an index, but no size", size)
        self.check('96xf32, #transformer.dims<"rows">', '96xf32, #transformer.dims<"row">',
                   "result has 'row' rows, but input has 'rows'")

    def test_what_is_forgotten(self):
        self.check(" : (!x, tensor<64xf32>) -> !x", "", "expected ':'",
                   "it is written %y = transformer.rms_norm %x, %v {epsilon = 1.0e-5} : ")
        self.check("(!x, tensor<64xf32>) -> !x", "(!x, tensor<64xf32>)", "expected '->'",
                   "it is written %y = transformer.rms_norm")
        self.check("weights(%w)", "%w", "it is written %y = transformer.matmul %x weights(%w)")
        self.check(" <gelu>", "", "it is written %y = transformer.activation %x <gelu> : !rows")
        self.check("  return %z : !h\n", "", "end a function with return")
        self.check("rms_norm %x, %norm {",
                   "rms_norm %x, %c {", "nothing defines %c")
        self.check("  %n = transformer.rms_norm %x, %norm {",
                   "  %c = arith.constant dense<1.0> : tensor<64xf32>\n"
                   "  %n = transformer.rms_norm %x, %c {",
                   "arith.constant", "pass what it computes as an argument")

    def test_a_size_stands_first(self):
        size = '%rows: index {transformer.size = #transformer.size<"rows", 1 to 64>}'
        last = BLOCK.replace(size + ", ", "").replace("%r: !h)", f"%r: !h, {size})")
        self.refused(2, "compile", "-", "--run", text=last,
                     says="'%x' (tensor<?x64xf32, #transformer.dims<\"rows\">>) follows size 'rows', "
                          "which the function takes only after it; move %rows to the front")
        self.refused(2, "compile", "-", text=last, says="move the size to the front")
        self.check(size, f"{size}, {size.replace('%rows', '%again')}", "takes size 'rows' twice",
                   "leave one of the two out")
        self.check("1 to 64>", "64 to 1>", "a range is MIN to MAX from 1 on")
        # Without names in any type: what the message says is to be done everywhere.
        bare = BLOCK.replace(', #transformer.dims<"rows">', "")
        self.refused(2, "compile", "-", "--run", text=bare, says="in all types of the function")
        self.check(BLOCK.splitlines()[0], "!x = tensor<?x64xf32>", "result has 'rows' rows, but "
                   'input has unnamed ones; write tensor<?x64xf32, #transformer.dims<"rows">>',
                   "in all types of the function")

    def test_a_size_beyond_memory(self):
        # Two products: what lies between them is an intermediate result.
        module = BLOCK.replace("1 to 64>", "1 to 999999999999>").replace("%g, %r", "%t, %r").replace(
            "  %z", "  %s = transformer.matmul %g weights(%w) {transpose} : "
            "(!h, tensor<96x64xf32>) -> !x\n  %t = transformer.matmul %s weights(%w) : "
            "(!x, tensor<96x64xf32>) -> !h\n  %z")
        run = ("compile", "-", "--run", "--size", "rows=4")
        self.refused(2, *run, text=module,
                     says="function does not fit in memory (@block): its intermediate results take")
        self.refused(2, *run, text=module, says="at rows = 999999999999, this machine has")
        self.refused(2, *run, text=module, says='give the size a smaller maximum, as in '
                     '#transformer.size<"rows", 1 to 512>')
        self.ok("compile", "-", text=module)  # for a machine that has it
        line = kernelforge("tune", "-", "--trials", 1, text=module)
        self.assertEqual(line.returncode, 2)
        self.assertIn("do not fit in memory (@block_", line.stderr)
        self.assertIn("smaller maxima", line.stderr)

    def test_what_is_of_the_wrong_kind(self):
        self.check("1.0e-5", "1.0e-5 : f32", "'transformer.rms_norm' op attribute 'epsilon'",
                   "leave out ': f32'")
        self.check("bias(%b)", "", "operands present",
                   "bias(%b) and its type may be left out together")
        self.check("tensor<96x64xf32>", "tensor<96x64xf64>",
                   "'tensor<96x64xf64>', which is not a weight matrix", "known for T: f32, f16, bf16, "
                   "!transformer.quant<q4_0>")
        self.check("tensor<96x64xf32>", "tensor<96x64x!transformer.q4_1>",
                   "write !transformer.quant<q4_1>")
        self.check("tensor<96x64xf32>", "tensor<96x64xq4_1>", "write !transformer.quant<q4_1>")
        self.check("#transformer.dims", "#transformer.dim", "did you mean '#transformer.dims'?")
        self.check("<gelu>", "<gleu>", "did you mean 'gelu'?")
        self.check(" {epsilon = 1.0e-5}", "", "{epsilon = 1.0e-5} : (!rows, !vector)")
        self.check("%y =", "%n =", "redefinition of SSA value '%n'", "a name of its own")
        self.check("%r : !h", "%r : (!h, !h) -> !h", "it is written %z = transformer.add %x, %y : !rows")
        self.check("return %z : !h", "return %z", "it is written return %z : TYPE")
        self.check("%r: !h) -> !h", "%r: !h)", "func.func @NAME(...) -> TYPE {")
        self.check("%w: tensor<96x64xf32>",
                   '%w: tensor<96x64xf32> {transformer.weight = "w", transformer.input = "w"}',
                   "4:41", "argument 3 is a transformer.weight and a transformer.input")
        self.check("  return %z : !h\n", "", "block with no terminator; end a function")
        assembly = self.ok("emit-mlir", "-", "--stage", "asm", text=BLOCK)
        self.refused(2, "compile", "-", text=assembly, says="this is assembly")
        self.refused(2, "compile", "-", text="\0\1\2", says="a module is text")

    def test_advice_that_is_followed_helps(self):
        size = '%rows: index {transformer.size = #transformer.size<"rows", 1 to 512>}'
        self.ok("compile", "-", "--run", text=BLOCK)
        bare = BLOCK.replace('%rows: index {transformer.size = #transformer.size<"rows", 1 to 64>}',
                             size)
        self.ok("compile", "-", "--run", text=bare)
        # A kernel written by hand, its weight as it lies in a file.
        kernel = pinned("generated")
        line = kernelforge("compile", "-", text=kernel).stderr
        packed = "tensor<24x40xf32, #transformer.layout<interleaved, rows = 16>>"
        self.assertIn(f"write {packed} in the kernel and in the function", line.replace("'", ""))
        self.ok("compile", "-", "--run", text=kernel.replace("tensor<24x40xf32>", packed))


if __name__ == "__main__":
    cli.run(sys.argv)
