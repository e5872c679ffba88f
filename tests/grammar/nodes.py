"""Which nodes of PostgreSQL's raw parse tree must occur, by the names that pglast gives them.

Every class of `pglast.ast` is in exactly one of the lists below, so that a new one cannot be overlooked.
"""

# Expressions, clauses and the statements that the planner looks into.
WANTED = '''
A_ArrayExpr A_Const A_Expr A_Indices A_Indirection A_Star Alias BoolExpr BooleanTest CTECycleClause CTESearchClause
CaseExpr CaseWhen CoalesceExpr CollateClause ColumnRef CommonTableExpr CurrentOfExpr
DeleteStmt FuncCall GroupingFunc GroupingSet IndexElem InferClause InsertStmt IntoClause JoinExpr
JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFormat
JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning
JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr
LockingClause MergeStmt MergeSupportFunc MergeWhenClause MinMaxExpr MultiAssignRef NamedArgExpr NullTest
OnConflictClause ParamRef RangeFunction RangeSubselect RangeTableFunc RangeTableFuncCol RangeTableSample RangeVar
ResTarget ReturningClause ReturningOption RowExpr SQLValueFunction SelectStmt SetToDefault SortBy SubLink TypeCast
TypeName UpdateStmt WindowDef WithClause XmlExpr XmlSerialize
ColumnDef DeclareCursorStmt ExplainStmt PrepareStmt CopyStmt CreateTableAsStmt DefElem RawStmt String
CreateStmt Constraint IndexStmt AlterTableStmt AlterTableCmd TruncateStmt VariableSetStmt
PartitionBoundSpec PartitionElem PartitionSpec PartitionCmd TableLikeClause
'''.split()

# Values inside of A_Const, not nodes of their own in the JSON form; the enumeration `values` counts them.
INSIDE = 'Node Expr ValUnion BitString Boolean Float Integer'.split()

# Made by parse analysis and planning, never by the grammar.
ANALYSED = '''
Aggref AlternativeSubPlan ArrayCoerceExpr ArrayExpr CaseTestExpr CoerceToDomain CoerceToDomainValue CoerceViaIO
CollateExpr ConvertRowtypeExpr FieldSelect FieldStore FromExpr FuncExpr InferenceElem JsonConstructorExpr JsonExpr
MergeAction OnConflictExpr OpExpr PLAssignStmt Param Query RTEPermissionInfo RangeTblEntry RangeTblFunction RangeTblRef
PartitionRangeDatum RelabelType ReturningExpr RowCompareExpr RowMarkClause ScalarArrayOpExpr SetOperationStmt SortGroupClause SubPlan
SubscriptingRef TableFunc TableSampleClause TargetEntry Var WindowClause WindowFunc WindowFuncRunCondition
WithCheckOption CallContext InlineCodeBlock JsonTablePath
'''.split()

# Statements that the planner knows by their tokens alone, and what stands in them only.
BY_TOKENS = '''
ATAlterConstraint AccessPriv CallStmt CheckPointStmt ClosePortalStmt ClusterStmt CommentStmt CompositeTypeStmt
ConstraintsSetStmt DeallocateStmt DiscardStmt DoStmt ExecuteStmt FetchStmt FunctionParameter GrantRoleStmt
GrantStmt ImportForeignSchemaStmt ListenStmt LoadStmt LockStmt NotifyStmt ObjectWithArgs
PublicationObjSpec PublicationTable ReassignOwnedStmt RefreshMatViewStmt ReindexStmt RenameStmt ReplicaIdentityStmt
ReturnStmt RoleSpec RuleStmt SecLabelStmt StatsElem TransactionStmt TriggerTransition UnlistenStmt VacuumRelation
VacuumStmt VariableShowStmt ViewStmt DefineStmt
'''.split()
BY_TOKENS_PREFIXES = ('Alter', 'Create', 'Drop')

# Values of enumerations that say what a node is, and must occur as often.
VALUES = '''
AEXPR_OP AEXPR_OP_ANY AEXPR_OP_ALL AEXPR_DISTINCT AEXPR_NOT_DISTINCT AEXPR_NULLIF AEXPR_IN AEXPR_LIKE AEXPR_ILIKE
AEXPR_SIMILAR AEXPR_BETWEEN AEXPR_NOT_BETWEEN AEXPR_BETWEEN_SYM AEXPR_NOT_BETWEEN_SYM
AND_EXPR OR_EXPR NOT_EXPR IS_NULL IS_NOT_NULL IS_TRUE IS_NOT_TRUE IS_FALSE IS_NOT_FALSE IS_UNKNOWN IS_NOT_UNKNOWN
EXISTS_SUBLINK ALL_SUBLINK ANY_SUBLINK EXPR_SUBLINK ARRAY_SUBLINK
JOIN_INNER JOIN_LEFT JOIN_FULL JOIN_RIGHT SETOP_UNION SETOP_INTERSECT SETOP_EXCEPT
GROUPING_SET_EMPTY GROUPING_SET_ROLLUP GROUPING_SET_CUBE GROUPING_SET_SETS
LIMIT_OPTION_COUNT LIMIT_OPTION_WITH_TIES LCS_FORKEYSHARE LCS_FORSHARE LCS_FORNOKEYUPDATE LCS_FORUPDATE
LockWaitBlock LockWaitSkip LockWaitError
ONCONFLICT_NOTHING ONCONFLICT_UPDATE OVERRIDING_USER_VALUE OVERRIDING_SYSTEM_VALUE
CTEMaterializeDefault CTEMaterializeAlways CTEMaterializeNever
SORTBY_ASC SORTBY_DESC SORTBY_USING SORTBY_NULLS_FIRST SORTBY_NULLS_LAST
IS_GREATEST IS_LEAST COERCE_EXPLICIT_CALL COERCE_IMPLICIT_CAST COERCE_SQL_SYNTAX
MERGE_WHEN_MATCHED MERGE_WHEN_NOT_MATCHED_BY_SOURCE MERGE_WHEN_NOT_MATCHED_BY_TARGET
CMD_UPDATE CMD_INSERT CMD_DELETE CMD_NOTHING
IS_XMLCONCAT IS_XMLELEMENT IS_XMLFOREST IS_XMLPARSE IS_XMLPI IS_XMLROOT IS_DOCUMENT
JSON_EXISTS_OP JSON_QUERY_OP JSON_VALUE_OP
SVFOP_CURRENT_DATE SVFOP_CURRENT_TIME SVFOP_CURRENT_TIME_N SVFOP_CURRENT_TIMESTAMP SVFOP_CURRENT_TIMESTAMP_N
SVFOP_LOCALTIME SVFOP_LOCALTIME_N SVFOP_LOCALTIMESTAMP SVFOP_LOCALTIMESTAMP_N SVFOP_CURRENT_ROLE SVFOP_CURRENT_USER
SVFOP_USER SVFOP_SESSION_USER SVFOP_CURRENT_CATALOG SVFOP_CURRENT_SCHEMA
ival fval boolval sval bsval isnull
'''.split()


def unknown(classes):
    """Classes of pglast that none of the lists has, and those that two have."""
    lists = [WANTED, INSIDE, ANALYSED, BY_TOKENS]
    wrong = []
    for name in classes:
        found = sum(name in names for names in lists)
        found += name not in WANTED + BY_TOKENS and name.startswith(BY_TOKENS_PREFIXES) and name.endswith(('Stmt', 'Item'))
        if found != 1:
            wrong.append(name)
    return wrong
