;; expect: INVALID_MODULE
;; A LEB128 number of six bytes where five are the most: readers that go on shifting overflow.
(module binary "\00asm\01\00\00\00" "\01\80\80\80\80\80\00")
